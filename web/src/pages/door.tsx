// The ways in: the first account, signing in, and what links in mails lead to. A code stands behind `#` in its link; it is taken from there
// at once, so that neither the history nor the address bar keeps it.
import { Group, PasswordInput, Stack, Text, TextInput, Title } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useNavigate, useRouter, useSearch } from '@tanstack/react-router';
import { useEffect, useState, type ReactNode } from 'react';
import { api, done, Refused } from '../api/client';
import { instanceQuery, sessionQuery } from '../api/queries';
import { Brand } from '../frame/Brand';
import { ActionForm, field } from '../pieces/action';
import { ownAddress } from '../pieces/format';
import { Loaded } from '../pieces/states';
import { Name, TextLink } from '../pieces/text';

function Door({ title, children }: { title: string; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Sluice`;
  }, [title]);
  return (
    <main className="door">
      <Group justify="center" mb="lg" className="brand">
        <Brand />
      </Group>
      <div className="card">
        <Stack gap="md">
          <Title order={1}>{title}</Title>
          {children}
        </Stack>
      </div>
    </main>
  );
}

/** The code of the link that led here. */
function useCodeOfLink(): string {
  const [code, setCode] = useState(() => window.location.hash.slice(1));
  useEffect(() => {
    // A link that is opened where its page is open already changes nothing but what stands behind `#`.
    const take = () => {
      const linked = window.location.hash.slice(1);
      if (!linked) return;
      setCode(linked);
      window.history.replaceState(window.history.state, '', window.location.pathname);
    };
    take();
    window.addEventListener('hashchange', take);
    return () => window.removeEventListener('hashchange', take);
  }, []);
  return code;
}

function NewPassword({ label = 'Password' }: { label?: string }) {
  return (
    <PasswordInput name="password" label={label} description="At least 8 characters; what is easily guessed is refused." autoComplete="new-password" minLength={8} required />
  );
}

export function Setup() {
  const instance = useQuery(instanceQuery);
  const client = useQueryClient();
  const navigate = useNavigate();
  const code = useCodeOfLink();
  const setUp = async (fields: FormData) => {
    const [email, password] = [field(fields, 'email').trim(), field(fields, 'password')];
    await done(api.POST('/setup', { body: { code: field(fields, 'code').trim(), email, password } }));
    await done(api.POST('/session', { body: { email, password } }));
    client.clear();
    await navigate({ to: '/app' });
  };
  return (
    <Door title="First run">
      <Loaded query={instance}>
        {(instance) =>
          instance.needs_setup ? (
            <>
              <Text size="sm" c="dimmed">
                The first account looks after this server and owns every project that has no owner. Its setup code stands on the console of{' '}
                <code>sluice serve</code>.
              </Text>
              <ActionForm action={setUp} submit="Make the first account" label="First run">
                <TextInput key={code} name="code" label="Setup code" autoComplete="off" required defaultValue={code} />
                <TextInput name="email" label="E-mail" type="email" autoComplete="username" required />
                <NewPassword />
              </ActionForm>
            </>
          ) : (
            <Text size="sm">
              This server has its first account; its owner invites others. <TextLink to="/sign-in">Sign in</TextLink>.
            </Text>
          )
        }
      </Loaded>
    </Door>
  );
}

/** Signs in, and asks for a code where the account has a second factor. */
function SignInForm({ onDone, email, aside }: { onDone: () => Promise<unknown>; email?: string; aside?: ReactNode }) {
  const client = useQueryClient();
  const [needsCode, setNeedsCode] = useState(false);
  const signIn = async (fields: FormData) => {
    const code = field(fields, 'code').trim();
    const body = { email: field(fields, 'email').trim(), password: field(fields, 'password'), ...(code && { code }) };
    try {
      await done(api.POST('/session', { body }));
    } catch (error) {
      if (error instanceof Refused && error.code === 'code_needed' && !code) {
        setNeedsCode(true);
        throw new Refused(error.status, error.code, 'type the code that your authenticator app shows now');
      }
      throw error;
    }
    client.clear();
    await onDone();
  };
  return (
    <ActionForm action={signIn} submit="Sign in" label="Sign in" aside={aside}>
      <TextInput name="email" label="E-mail" type="email" autoComplete="username" required defaultValue={email} />
      <PasswordInput name="password" label="Password" autoComplete="current-password" required />
      {needsCode && (
        <TextInput name="code" label="Code of the authenticator app" description="Or one of your recovery codes." autoComplete="one-time-code" required autoFocus />
      )}
    </ActionForm>
  );
}

export function SignIn() {
  const { next } = useSearch({ strict: false });
  const router = useRouter();
  const instance = useQuery(instanceQuery);
  return (
    <Door title="Sign in">
      {instance.data?.needs_setup && (
        <Text size="sm">
          This server has no account yet. <TextLink to="/setup">Make the first one</TextLink>.
        </Text>
      )}
      <SignInForm
        onDone={async () => router.history.push(ownAddress(next))}
        aside={
          <TextLink to="/reset-password" size="sm">
            Forgot your password?
          </TextLink>
        }
      />
    </Door>
  );
}

export function Invitation() {
  const linked = useCodeOfLink();
  const [typed, setTyped] = useState('');
  const code = linked || typed;
  const client = useQueryClient();
  const navigate = useNavigate();
  const shown = useQuery({
    queryKey: ['invitation', code],
    queryFn: () => done(api.POST('/invitations/show', { body: { code } })),
    enabled: code !== '',
    gcTime: 0,
    retry: false,
  });
  const session = useQuery({ ...sessionQuery, enabled: shown.data?.has_account === true, retry: false });
  const accept = async (password?: string) => {
    const joined = await done(api.POST('/invitations/accept', { body: { code, ...(password && { password }) } }));
    client.clear();
    await navigate({ to: '/app/projects/$project/start', params: { project: String(joined.project_id) } });
  };
  return (
    <Door title="Accept an invitation">
      {code === '' ? (
        <ActionForm action={async (fields) => setTyped(field(fields, 'code').trim())} submit="Show the invitation" label="Invitation">
          <TextInput name="code" label="Code" description="What stands behind # in the link." autoComplete="off" required />
        </ActionForm>
      ) : (
        <Loaded query={shown}>
          {(invited) => (
            <>
              <Text size="sm">
                <Name>{invited.email}</Name> is invited to the project <b><Name>{invited.project_name}</Name></b> as {invited.role}.
              </Text>
              {!invited.has_account ? (
                <ActionForm action={(fields) => accept(field(fields, 'password'))} submit="Accept" label="New account">
                  {/* For password stores: whose password this is. */}
                  <TextInput label="E-mail" value={invited.email} readOnly autoComplete="username" />
                  <NewPassword />
                </ActionForm>
              ) : session.data && session.data.account.email === invited.email ? (
                <ActionForm action={() => accept()} submit="Accept" label="Accept">
                  <Text size="sm">You are signed in with this address.</Text>
                </ActionForm>
              ) : (
                <>
                  <Text size="sm">The address has an account: sign in to accept.</Text>
                  <SignInForm email={invited.email} onDone={() => accept()} />
                </>
              )}
            </>
          )}
        </Loaded>
      )}
    </Door>
  );
}

export function ResetPassword() {
  const code = useCodeOfLink();
  const [isOver, setOver] = useState(false);
  if (isOver) {
    return (
      <Door title="Set another password">
        <Text size="sm">
          The password is set, and every session of the account is over. <TextLink to="/sign-in">Sign in</TextLink>.
        </Text>
      </Door>
    );
  }
  if (code) {
    const set = async (fields: FormData) => {
      await done(api.POST('/password-reset/confirm', { body: { code, password: field(fields, 'password') } }));
      setOver(true);
    };
    return (
      <Door title="Set another password">
        <ActionForm action={set} submit="Set password" label="Set another password">
          <NewPassword label="New password" />
        </ActionForm>
      </Door>
    );
  }
  return (
    <Door title="Forgot your password">
      <Text size="sm" c="dimmed">
        A link to set another one goes to your address and holds for an hour. Where no mail arrives, ask an operator.
      </Text>
      <ActionForm
        action={(fields) => done(api.POST('/password-reset', { body: { email: field(fields, 'email').trim() } }))}
        submit="Send the link"
        doneText="If the address has an account, the link is on its way."
        label="Forgot your password"
      >
        <TextInput name="email" label="E-mail" type="email" autoComplete="username" required />
      </ActionForm>
      <TextLink to="/sign-in" size="sm">
        Back to signing in
      </TextLink>
    </Door>
  );
}

export function ConfirmEmail() {
  const code = useCodeOfLink();
  const session = useQuery({ ...sessionQuery, retry: false });
  const client = useQueryClient();
  const navigate = useNavigate();
  const confirm = async (typed: string) => {
    await done(api.POST('/account/email/confirm', { body: { code: typed } }));
    client.clear();
    await navigate({ to: '/app/account/$tab', params: { tab: 'general' } });
  };
  return (
    <Door title="Confirm your e-mail address">
      {session.data ? (
        <ActionForm action={(fields) => confirm(code || field(fields, 'code').trim())} submit="Confirm" label="Confirm">
          <Text size="sm">
            You sign in as <Name>{session.data.account.email}</Name> until now, and with the new address from now on.
          </Text>
          {!code && <TextInput name="code" label="Code" description="What stands behind # in the link." autoComplete="off" required />}
        </ActionForm>
      ) : (
        <>
          <Text size="sm">Sign in with the address that you had until now.</Text>
          <SignInForm onDone={async () => (code ? confirm(code) : client.invalidateQueries())} />
        </>
      )}
    </Door>
  );
}
