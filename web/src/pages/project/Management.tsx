// Management: token, API key and API secret of the project, their rotation, and the way to a reset.
import { Button, Divider, Modal, NativeSelect, Stack, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, done, type Schemas } from '../../api/client';
import { callersQuery } from '../../api/queries';
import { ActionForm, field } from '../../pieces/action';
import { Copyable } from '../../pieces/copy';
import { either } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { NewSecret } from '../../pieces/secret';
import { Empty, Loaded } from '../../pieces/states';
import { Section } from '../../pieces/text';
import { Callers } from './Callers';
import { KeyRows, NoKeys } from './Credentials';
import { TOKEN_IS_PUBLIC } from './Overview';
import { useProject } from './useProject';

export function Management() {
  const { project, id, isAdmin, isOwner } = useProject();
  const navigate = useNavigate();
  return (
    <>
      <Section
        title="Credentials"
        about="An API key is a unique identifier and a token for authentication. It belongs to one project and carries a set of access rights. An API secret belongs to that key. It signs API calls. Without it no data leaves the project."
      >
        <dl className="rows">
          <dt>Project token</dt>
          <dd>
            <Copyable value={project.token} label="project token" />
            <Text size="xs" c="dimmed" mt={2}>
              {TOKEN_IS_PUBLIC}
            </Text>
          </dd>
        </dl>
        {project.keys.length === 0 && <NoKeys />}
        {project.keys.map((key, at) => (
          <div key={key.key_id}>
            <Divider my="sm" />
            <dl className="rows">
              <KeyRows project={project} apiKey={key} of={at === 0 ? undefined : key.name} />
            </dl>
            {isAdmin && (
              <div className="under">
                <Rotate apiKey={key} />
              </div>
            )}
          </div>
        ))}
      </Section>
      <Section
        title="Reset"
        about="Clears API key and API secret at once, every pair of them, never the token. A reset breaks dependent import/export operations; to change a pair without a gap, rotate it instead."
      >
        <Stack gap="xs" align="flex-start">
          <Button
            color="red"
            variant="outline"
            disabled={!isOwner}
            onClick={() => navigate({ to: '/app/projects/$project/reset-credentials', params: { project: String(id) } })}
          >
            Reset credentials
          </Button>
          {!isOwner && (
            <Text size="sm">Only the Project Owner can reset the API key and API secret: ask {either(project.owners)}.</Text>
          )}
        </Stack>
      </Section>
      {isAdmin && <Knocking />}
    </>
  );
}

const OVERLAPS = [
  { value: '1h', label: '1 hour' },
  { value: '24h', label: '1 day' },
  { value: '7d', label: '7 days' },
  { value: '30d', label: '30 days' },
];

/** Puts a new pair beside a key. The dialog stays when the key has its successor: the new pair stands in it. */
export function Rotate({ apiKey }: { apiKey: Schemas['Key'] }) {
  const { id, refresh } = useProject();
  const [isOpen, setOpen] = useState(false);
  const [pair, setPair] = useState<Schemas['KeyPair']>();
  const withProof = useProof();
  const path = { project: id, key: apiKey.api_key ?? '' };
  const rotate = async (fields: FormData) => {
    const body = { overlap: field(fields, 'overlap') };
    setPair(await withProof(() => done(api.POST('/projects/{project}/keys/{key}/rotate', { params: { path }, body }))));
    await refresh();
  };
  const close = () => {
    setOpen(false);
    setPair(undefined);
  };
  return (
    <>
      {!apiKey.retires_at && (
        <Button variant="default" size="compact-sm" onClick={() => setOpen(true)} aria-label={`Rotate ${apiKey.name}`}>
          Rotate
        </Button>
      )}
      <Modal opened={isOpen} onClose={close} title="Rotate" size="lg" closeOnClickOutside={!pair}>
        {pair ? (
          <NewSecret
            pairs={[
              ['API key', pair.api_key],
              ['API secret', pair.api_secret],
            ]}
            onKept={close}
          />
        ) : (
          <ActionForm action={rotate} submit="Make the new pair" label="Rotate">
            <Text size="sm">A new pair with the same rights stands beside the old one. Both work until the overlap ends; move your scripts meanwhile.</Text>
            <NativeSelect name="overlap" label="The old pair works on for" data={OVERLAPS} defaultValue="7d" maw="14rem" />
          </ActionForm>
        )}
      </Modal>
    </>
  );
}

/** Who still calls with what is dead. */
function Knocking() {
  const { id } = useProject();
  const callers = useQuery(callersQuery(id));
  return (
    <Section title="Still knocking" about="Who calls with a credential that was reset, revoked or rotated away. They are answered 401 and told to ask the owner.">
      <Loaded query={callers}>
        {(all) => {
          const revoked = all.filter((caller) => caller.outcome === 'revoked');
          return revoked.length === 0 ? <Empty>Nobody in the last 90 days.</Empty> : <Callers callers={revoked} label="Still knocking" />;
        }}
      </Loaded>
    </Section>
  );
}
