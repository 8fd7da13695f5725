// What keeps the account safe: the second factor, the sessions, and tokens for scripts.
import { Button, Group, Modal, Stack, Table, Text, TextInput } from '@mantine/core';
import { useQuery, useQueryClient, useSuspenseQuery } from '@tanstack/react-query';
import { QRCodeSVG } from 'qrcode.react';
import { useState } from 'react';
import { api, done, type Schemas } from '../../api/client';
import { bearerTokensQuery, sessionQuery, sessionsQuery } from '../../api/queries';
import { ActionForm, Confirmed, field, Problem, useAction } from '../../pieces/action';
import { Copyable } from '../../pieces/copy';
import { useProof } from '../../pieces/proof';
import { NewSecret } from '../../pieces/secret';
import { Empty, Loaded } from '../../pieces/states';
import { Name, Section, When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';

export function Security() {
  return (
    <>
      <SecondFactor />
      <Sessions />
      <BearerTokens />
    </>
  );
}

function SecondFactor() {
  const { data: session } = useSuspenseQuery(sessionQuery);
  const client = useQueryClient();
  const withProof = useProof();
  const { run, busy, problem } = useAction();
  const [setup, setSetup] = useState<Schemas['NewTotp']>();
  const [codes, setCodes] = useState<string[]>();
  const refresh = () => client.invalidateQueries({ queryKey: sessionQuery.queryKey });
  const begin = () => run(async () => setSetup(await withProof(() => done(api.POST('/account/totp')))));
  const confirm = async (fields: FormData) => {
    const body = { code: field(fields, 'code').trim() };
    setCodes((await withProof(() => done(api.POST('/account/totp/confirm', { body })))).recovery_codes);
    setSetup(undefined);
    await refresh();
  };
  const end = async () => {
    await withProof(() => done(api.DELETE('/account/totp')));
    await refresh();
  };
  const renew = () =>
    run(async () => {
      setCodes((await withProof(() => done(api.POST('/account/recovery-codes')))).recovery_codes);
      await refresh();
    });
  const has = session.account.has_totp;
  return (
    <Section title="Second factor" about="A code of an authenticator app beside the password. It also stands in for the password where a fresh proof is asked for.">
      <Stack gap="sm" align="flex-start">
        {has ? (
          <>
            <Text size="sm">It is on. {session.account.recovery_codes} recovery codes are left.</Text>
            <Group gap={6}>
              <Button variant="default" size="compact-sm" onClick={renew} loading={busy}>
                Make new recovery codes
              </Button>
              <Confirmed label="Turn it off" title="Turn the second factor off" about="The password alone signs in then." action={end} />
            </Group>
          </>
        ) : (
          <Button onClick={begin} loading={busy}>
            Set up an authenticator app
          </Button>
        )}
        {problem && <Problem>{problem}</Problem>}
      </Stack>
      <Modal opened={setup !== undefined} onClose={() => setSetup(undefined)} title="Set up an authenticator app">
        {setup && (
          <Stack gap="sm">
            <Text size="sm">Scan this with the app, or type the secret into it. Then type the code that it shows.</Text>
            {/* Black on white in both themes: cameras expect it. */}
            <QRCodeSVG value={setup.url} size={184} marginSize={3} title="QR code for the authenticator app" role="img" />
            <Copyable value={setup.secret} label="secret of the authenticator app" />
            <ActionForm action={confirm} submit="Turn it on" label="Set up an authenticator app">
              <TextInput name="code" label="Code" inputMode="numeric" autoComplete="one-time-code" required data-autofocus />
            </ActionForm>
          </Stack>
        )}
      </Modal>
      <Modal opened={codes !== undefined} onClose={() => setCodes(undefined)} title="Recovery codes" closeOnClickOutside={false}>
        {codes && (
          <Stack gap="sm">
            <Text size="sm">Each signs in once, where the app is lost. They are shown only this once: keep them apart from the password.</Text>
            <Copyable value={codes.join('\n')} label="recovery codes" />
            <Group>
              <Button onClick={() => setCodes(undefined)}>I have stored them</Button>
            </Group>
          </Stack>
        )}
      </Modal>
    </Section>
  );
}

function Sessions() {
  const sessions = useQuery(sessionsQuery);
  const client = useQueryClient();
  const withProof = useProof();
  const refresh = () => client.invalidateQueries({ queryKey: ['sessions'] });
  const end = async (session: number) => {
    await done(api.DELETE('/sessions/{session}', { params: { path: { session } } }));
    await refresh();
  };
  const endOthers = async () => {
    await withProof(() => done(api.DELETE('/sessions')));
    await refresh();
  };
  return (
    <Section
      title="Sessions"
      about="Where the account is signed in. A session ends after twelve hours without use."
      actions={<Confirmed label="End all others" title="End all other sessions" about="Whoever uses them has to sign in again." action={endOthers} />}
    >
      <Loaded query={sessions}>
        {(all) => (
          <Wide minWidth={560} label="Sessions">
            <Table aria-label="Sessions">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Browser</Table.Th>
                  <Table.Th>From where</Table.Th>
                  <Table.Th>Last seen</Table.Th>
                  <Table.Th aria-label="Actions" />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {all.map((session) => (
                  <Table.Tr key={session.session_id}>
                    <Table.Td>
                      <Name>{session.user_agent || 'no User-Agent'}</Name>
                    </Table.Td>
                    <Table.Td className="value">{session.address}</Table.Td>
                    <Table.Td>
                      <When at={session.seen_at} ago />
                    </Table.Td>
                    <Table.Td ta="right">
                      {session.is_current ? (
<Text size="sm" className="whole">this one</Text>
                      ) : (
                        <Confirmed label="End" ariaLabel={`End the session from ${session.address}`} title="End the session" about="Whoever uses it has to sign in again." action={() => end(session.session_id)} />
                      )}
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Wide>
        )}
      </Loaded>
    </Section>
  );
}

function BearerTokens() {
  const tokens = useQuery(bearerTokensQuery);
  const client = useQueryClient();
  const withProof = useProof();
  const [made, setMade] = useState<string>();
  const refresh = () => client.invalidateQueries({ queryKey: ['bearer-tokens'] });
  const create = async (fields: FormData) => {
    const expires = field(fields, 'expires_at');
    const body = { name: field(fields, 'name').trim(), ...(expires && { expires_at: expires }) };
    setMade((await withProof(() => done(api.POST('/account/bearer-tokens', { body })))).bearer_token);
    await refresh();
  };
  const revoke = async (token: number) => {
    await done(api.DELETE('/account/bearer-tokens/{token}', { params: { path: { token } } }));
    await refresh();
  };
  return (
    <Section title="Bearer tokens" about="For your own scripts: each may what you may, but shows and makes no secret.">
      <ActionForm action={create} submit="Create token" label="Bearer tokens">
        <Group align="flex-end" gap="sm">
          <TextInput name="name" label="Name" required maxLength={200} autoComplete="off" />
          <TextInput name="expires_at" type="date" label="Expires on" />
        </Group>
      </ActionForm>
      <Modal opened={made !== undefined} onClose={() => setMade(undefined)} title="The new bearer token" closeOnClickOutside={false} size="lg">
        {made && (
          <NewSecret pairs={[['Bearer token', made]]} sentence="It is shown only this once. Never share it or send it over email." onKept={() => setMade(undefined)} />
        )}
      </Modal>
      <Loaded query={tokens} lines={1}>
        {(all) => {
          const live = all.filter((token) => token.revoked_at === null);
          return live.length === 0 ? (
            <Empty>There is none.</Empty>
          ) : (
            <Table aria-label="Bearer tokens" mt="sm">
              <Table.Tbody>
                {live.map((token) => (
                  <Table.Tr key={token.id}>
                    <Table.Td>
                      <Name>{token.name}</Name>
                    </Table.Td>
                    <Table.Td>{token.expires_at ? <>until <When at={token.expires_at} /></> : 'no end'}</Table.Td>
                    <Table.Td ta="right">
                      <Confirmed label="Revoke" ariaLabel={`Revoke ${token.name}`} title="Revoke the bearer token" about="What calls with it is refused as of now." action={() => revoke(token.id)} />
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          );
        }}
      </Loaded>
    </Section>
  );
}
