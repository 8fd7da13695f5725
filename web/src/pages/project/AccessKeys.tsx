// Access keys: every API key of the project, dead ones too, service accounts, and who calls with what.
import { Button, Checkbox, Group, Modal, NativeSelect, Stack, Switch, Table, Text, TextInput } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, done, type Role, type Schemas } from '../../api/client';
import { callersQuery, keysQuery, serviceAccountsQuery } from '../../api/queries';
import { ActionForm, Confirmed, field, Problem, useAction } from '../../pieces/action';
import { either } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { NewSecret } from '../../pieces/secret';
import { Empty, Loaded } from '../../pieces/states';
import { Name, RoleBadge, Section, When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';
import { Callers } from './Callers';
import { Rotate } from './Management';
import { isAtLeast, useProject } from './useProject';

type Legacy = Schemas['LegacySwitch'];

const RIGHTS = ['export', 'query', 'import', 'profiles-read', 'profiles-write', 'annotations', 'schema', 'data-deletion'];
const LEGACY: { value: Legacy; label: string }[] = [
  { value: 'on', label: 'taken' },
  { value: 'warn', label: 'taken, with a warning' },
  { value: 'off', label: 'refused' },
];

export function AccessKeys() {
  const { id, isAdmin } = useProject();
  const keys = useQuery(keysQuery(id));
  const [showsDead, setShowsDead] = useState(false);
  return (
    <>
      <Section
        title="API keys"
        about="Each key has access rights of its own, and may have an end and networks that it is used from."
        actions={isAdmin && <NewKey />}
      >
        <Loaded query={keys}>
          {(all) => {
            const dead = all.filter((key) => key.revoked_at !== null).length;
            const shown = showsDead ? all : all.filter((key) => key.revoked_at === null);
            return (
              <>
                {shown.length === 0 ? <Empty>There is no live key. Create one, or rotate.</Empty> : <KeyTable keys={shown} />}
                {dead > 0 && (
                  <Switch mt="sm" label={`Show ${dead} that ended`} checked={showsDead} onChange={(event) => setShowsDead(event.currentTarget.checked)} />
                )}
              </>
            );
          }}
        </Loaded>
      </Section>
      {isAdmin ? (
        <>
          <ServiceAccounts />
          <CallersOfProject />
        </>
      ) : (
        <NotForRole />
      )}
    </>
  );
}

function NotForRole() {
  const { project } = useProject();
  return <Text size="sm" c="dimmed">Keys, service accounts and callers are looked after by admins and owners: ask {either(project.owners)}.</Text>;
}

function KeyTable({ keys }: { keys: Schemas['Key'][] }) {
  return (
    <Wide minWidth={760} label="API keys">
      <Table aria-label="API keys">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Key and its rights</Table.Th>
            <Table.Th>Expiry</Table.Th>
            <Table.Th>Networks</Table.Th>
            <Table.Th>Legacy signature</Table.Th>
            <Table.Th>Last use</Table.Th>
            <Table.Th aria-label="Actions" />
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {keys.map((key) => (
            <KeyRow key={key.key_id} apiKey={key} />
          ))}
        </Table.Tbody>
      </Table>
    </Wide>
  );
}

function KeyRow({ apiKey }: { apiKey: Schemas['Key'] }) {
  const { id, isAdmin, refresh } = useProject();
  const withProof = useProof();
  const { run, problem } = useAction();
  const path = { project: id, key: apiKey.api_key ?? '' };
  const isLive = apiKey.revoked_at === null;
  const setLegacy = (legacy: Legacy) =>
    run(async () => {
      await withProof(() => done(api.PATCH('/projects/{project}/keys/{key}', { params: { path }, body: { legacy } })));
      await refresh();
    });
  const revoke = async () => {
    await withProof(() => done(api.DELETE('/projects/{project}/keys/{key}', { params: { path } })));
    await refresh();
  };
  const networks = apiKey.networks.split(',').filter(Boolean);
  return (
    <Table.Tr>
      <Table.Td>
        <Text size="sm" fw={550}>
          <Name>{apiKey.name}</Name>
        </Text>
        <code className="value whole">{apiKey.api_key ?? 'shown to admins'}</code>
        <Text size="xs" c="dimmed">
          {apiKey.rights.length === RIGHTS.length ? 'all rights' : apiKey.rights.join(', ')}
        </Text>
      </Table.Td>
      <Table.Td>
        {apiKey.revoked_at ? (
          <>
            ended <When at={apiKey.revoked_at} day />
          </>
        ) : apiKey.retires_at ? (
          <>
            retires <When at={apiKey.retires_at} day />
          </>
        ) : apiKey.expires_at ? (
          <When at={apiKey.expires_at} day />
        ) : (
          'none'
        )}
      </Table.Td>
      <Table.Td>{networks.length === 0 ? 'everywhere' : networks.map((network) => <div key={network} className="value whole">{network}</div>)}</Table.Td>
      <Table.Td>
        {isAdmin && isLive ? (
          <Stack gap={4}>
            <NativeSelect
              size="xs"
              aria-label={`Legacy signature of ${apiKey.name}`}
              value={apiKey.legacy}
              data={LEGACY}
              onChange={(event) => setLegacy(event.currentTarget.value as Legacy)}
            />
            {problem && <Problem>{problem}</Problem>}
          </Stack>
        ) : (
          LEGACY.find((known) => known.value === apiKey.legacy)?.label
        )}
      </Table.Td>
      <Table.Td>
        {apiKey.last_used ? (
          <>
            <When at={apiKey.last_used.last_at} ago />
            <Text size="xs" c="dimmed" className="whole">
              {apiKey.last_used.endpoint}
            </Text>
          </>
        ) : (
          'never'
        )}
      </Table.Td>
      <Table.Td>
        {isAdmin && isLive && (
          <Stack gap={4} align="flex-end">
            <Rotate apiKey={apiKey} />
            <Confirmed
              label="Revoke"
              ariaLabel={`Revoke ${apiKey.name}`}
              title="Revoke the key"
              about={<>What signs with <Name>{apiKey.name}</Name> is refused as of now. There is no way back.</>}
              action={revoke}
            />
          </Stack>
        )}
      </Table.Td>
    </Table.Tr>
  );
}

function NewKey() {
  const { project, id, refresh } = useProject();
  const [isOpen, setOpen] = useState(false);
  const [pair, setPair] = useState<Schemas['KeyPair']>();
  const withProof = useProof();
  const create = async (fields: FormData) => {
    const text = (name: string) => field(fields, name).trim();
    const body = {
      name: text('name'),
      rights: fields.getAll('rights').map(String),
      networks: text('networks').split(/[\s,]+/).filter(Boolean),
      legacy: text('legacy') as Legacy,
      ...(text('expires_at') && { expires_at: text('expires_at') }),
    };
    setPair(await withProof(() => done(api.POST('/projects/{project}/keys', { params: { path: { project: id } }, body }))));
    await refresh();
  };
  const close = () => {
    setOpen(false);
    setPair(undefined);
  };
  // An admin's key may not delete data: a key never exceeds its maker.
  const offered = project.role === 'owner' ? RIGHTS : RIGHTS.filter((right) => right !== 'data-deletion');
  return (
    <>
      <Button onClick={() => setOpen(true)}>Create key</Button>
      <Modal opened={isOpen} onClose={close} title="Create an API key" size="lg" closeOnClickOutside={!pair}>
        {pair ? (
          <NewSecret
            pairs={[
              ['API key', pair.api_key],
              ['API secret', pair.api_secret],
            ]}
            onKept={close}
          />
        ) : (
          <ActionForm action={create} submit="Create key" label="Create an API key">
            <TextInput name="name" label="Name" description="What calls with it, such as: nightly export." required maxLength={200} autoComplete="off" data-autofocus />
            <Checkbox.Group label="Access rights" defaultValue={['export']}>
              <Group gap="md" mt={6}>
                {offered.map((right) => (
                  <Checkbox key={right} name="rights" value={right} label={right} />
                ))}
              </Group>
            </Checkbox.Group>
            <Group grow align="flex-start">
              <TextInput name="expires_at" type="date" label="Expires on" description="Empty: it does not." />
              <TextInput name="networks" label="Networks" description="Such as 10.0.0.0/8; empty: everywhere." autoComplete="off" />
            </Group>
            <NativeSelect
              name="legacy"
              label="Legacy MD5 signature"
              description="Refused: the secret is stored as a hash, and is shown only once."
              defaultValue="off"
              data={LEGACY}
              maw="20rem"
            />
          </ActionForm>
        )}
      </Modal>
    </>
  );
}

function ServiceAccounts() {
  const { project, id } = useProject();
  const client = useQueryClient();
  const withProof = useProof();
  const accounts = useQuery(serviceAccountsQuery(id));
  const [isOpen, setOpen] = useState(false);
  const [made, setMade] = useState<Schemas['NewServiceAccount']>();
  const after = () => client.invalidateQueries({ queryKey: serviceAccountsQuery(id).queryKey });
  const create = async (fields: FormData) => {
    const expires = field(fields, 'expires_at');
    const body = { name: field(fields, 'name').trim(), role: field(fields, 'role') as Role, ...(expires && { expires_at: expires }) };
    setMade(await withProof(() => done(api.POST('/projects/{project}/service-accounts', { params: { path: { project: id } }, body }))));
    await after();
  };
  const revoke = async (username: string) => {
    await withProof(() => done(api.DELETE('/projects/{project}/service-accounts/{username}', { params: { path: { project: id, username } } })));
    await after();
  };
  const close = () => {
    setOpen(false);
    setMade(undefined);
  };
  const roles = (['consumer', 'analyst', 'admin', 'owner'] as const).filter((role) => isAtLeast(project.role, role));
  return (
    <Section
      title="Service accounts"
      about="A user name and a secret for a script, with a role in this project. A reset of the credentials does not touch them."
      actions={<Button variant="default" onClick={() => setOpen(true)}>Create service account</Button>}
    >
      <Loaded query={accounts} lines={1}>
        {(all) =>
          all.length === 0 ? (
            <Empty>No script has a service account yet.</Empty>
          ) : (
            <Wide minWidth={600} label="Service accounts">
              <Table aria-label="Service accounts">
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>Name</Table.Th>
                    <Table.Th>Role</Table.Th>
                    <Table.Th>Expiry</Table.Th>
                    <Table.Th>Last use</Table.Th>
                    <Table.Th aria-label="Actions" />
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {all.map((account) => (
                    <Table.Tr key={account.username}>
                      <Table.Td>
                        <Text size="sm" fw={550}>
                          <Name>{account.name}</Name>
                        </Text>
                        <code className="value">{account.username}</code>
                      </Table.Td>
                      <Table.Td>
                        <RoleBadge role={account.role} />
                      </Table.Td>
                      <Table.Td>
                        {account.revoked_at ? (
                          <>
                            ended <When at={account.revoked_at} />
                          </>
                        ) : account.expires_at ? (
                          <When at={account.expires_at} />
                        ) : (
                          'none'
                        )}
                      </Table.Td>
                      <Table.Td>{account.last_used ? <When at={account.last_used.last_at} ago /> : 'never'}</Table.Td>
                      <Table.Td ta="right">
                        {account.revoked_at === null && (
                          <Confirmed
                            label="Revoke"
                            ariaLabel={`Revoke the service account ${account.name}`}
                            title="Revoke the service account"
                            about={<><Name>{account.name}</Name> is refused as of now. There is no way back.</>}
                            action={() => revoke(account.username)}
                          />
                        )}
                      </Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </Wide>
          )
        }
      </Loaded>
      <Modal opened={isOpen} onClose={close} title="Create a service account" size="lg" closeOnClickOutside={!made}>
        {made ? (
          <NewSecret
            pairs={[
              ['User name', made.username],
              ['Secret', made.secret],
            ]}
            sentence="It is shown only this once. Never share this secret or send it over email."
            onKept={close}
          />
        ) : (
          <ActionForm action={create} submit="Create" label="Create a service account">
            <TextInput name="name" label="Name" required maxLength={200} autoComplete="off" data-autofocus />
            <NativeSelect name="role" label="Role" defaultValue="consumer" data={roles.map((role) => ({ value: role, label: role }))} maw="14rem" />
            <TextInput name="expires_at" type="date" label="Expires on" description="Empty: it does not." maw="14rem" />
          </ActionForm>
        )}
      </Modal>
    </Section>
  );
}

function CallersOfProject() {
  const { id } = useProject();
  const callers = useQuery(callersQuery(id));
  return (
    <Section title="Callers of the last 90 days" about="Which scripts called with what, and were let in. People who read by this page are not among them.">
      <Loaded query={callers}>
        {(all) => {
          const accepted = all.filter((caller) => caller.outcome === 'accepted' && caller.scheme !== 'session');
          return accepted.length === 0 ? <Empty>Nobody called with a credential of this project yet.</Empty> : <Callers callers={accepted} label="Callers" />;
        }}
      </Loaded>
    </Section>
  );
}
