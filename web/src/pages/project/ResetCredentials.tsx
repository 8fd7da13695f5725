// Reset credentials (F7–F9): what will break, who that is, the typed name, and the new pair.
import { Alert, Button, Stack, Text, TextInput } from '@mantine/core';
import { IconAlertTriangle } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, done, type Schemas } from '../../api/client';
import { callersQuery } from '../../api/queries';
import { ActionForm, field } from '../../pieces/action';
import { either } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { NewSecret } from '../../pieces/secret';
import { Empty, Loaded } from '../../pieces/states';
import { Name, PageTitle, Section, TextLink } from '../../pieces/text';
import { Callers } from './Callers';
import { useProject } from './useProject';

export function ResetCredentials() {
  const { project, id, isOwner, refresh } = useProject();
  const [made, setMade] = useState<Schemas['Reset']>();
  const navigate = useNavigate();
  const management = { to: '/app/projects/$project/settings/$tab', params: { project: String(id), tab: 'management' } } as const;
  return (
    <Stack gap="md">
      <PageTitle of={project.name}>Reset credentials</PageTitle>
      {!isOwner ? (
        <Alert color="orange" variant="light" icon={<IconAlertTriangle size={18} />} title="Only the Project Owner can reset the API key and API secret">
          <Text size="sm">
            You are {project.role} of <Name>{project.name}</Name>. Ask {either(project.owners)}. <TextLink {...management}>Back to Management</TextLink>.
          </Text>
        </Alert>
      ) : made ? (
        <>
          <Section title="The new pair" about="The old API key and API secret are dead as of now; the project token is as it was.">
            <NewSecret
              pairs={[
                ['API key', made.api_key],
                ['API secret', made.api_secret],
              ]}
              onKept={() => {
                setMade(undefined);
                void navigate(management);
              }}
            />
          </Section>
          <Section title="Broken now" about="These import and export operations need the new pair. Whoever still knocks with the old one is listed under Management.">
            {made.callers.length === 0 ? <Empty>Nobody called with the old pair in the last 90 days.</Empty> : <Callers callers={made.callers} label="Broken now" />}
          </Section>
        </>
      ) : (
        <Question
          onReset={async (reset) => {
            setMade(reset);
            await refresh();
          }}
        />
      )}
    </Stack>
  );
}

function Question({ onReset }: { onReset: (made: Schemas['Reset']) => Promise<void> }) {
  const { project, id } = useProject();
  const withProof = useProof();
  const navigate = useNavigate();
  const callers = useQuery(callersQuery(id));
  const reset = async (fields: FormData) => {
    const body = { project_name: field(fields, 'project_name') };
    await onReset(await withProof(() => done(api.POST('/projects/{project}/credentials/reset', { params: { path: { project: id } }, body }))));
  };
  return (
    <>
      <Alert color="red" variant="light" icon={<IconAlertTriangle size={18} />} title="Dependent import/export operations will break">
        <Text size="sm">
          A reset clears the API key and the API secret of <Name>{project.name}</Name> at once, every pair of it. Scripts that sign with them are refused until
          they have the new pair. The project token stays: apps and web pages go on sending. <b>Check with your team before you go on.</b>
        </Text>
      </Alert>
      <Section title="These callers of the last 90 days will break">
        <Loaded query={callers}>
          {(all) => {
            const breaking = all.filter((caller) => caller.breaks_on_reset);
            return breaking.length === 0 ? <Empty>Nobody called with these credentials in the last 90 days.</Empty> : <Callers callers={breaking} label="Callers that will break" />;
          }}
        </Loaded>
      </Section>
      <Section title="Reset">
        <ActionForm
          action={reset}
          submit="Reset credentials"
          color="red"
          label="Reset credentials"
          aside={
            <Button variant="default" onClick={() => navigate({ to: '/app/projects/$project/settings/$tab', params: { project: String(id), tab: 'management' } })}>
              Cancel
            </Button>
          }
        >
          <TextInput
            name="project_name"
            label="Type the project's name to go on"
            description={<bdi>{project.name}</bdi>}
            required
            autoComplete="off"
            maw="26rem"
          />
        </ActionForm>
      </Section>
    </>
  );
}
