// Who signs in: address and password.
import { PasswordInput, Stack, TextInput } from '@mantine/core';
import { useQueryClient, useSuspenseQuery } from '@tanstack/react-query';
import { api, done } from '../../api/client';
import { sessionQuery } from '../../api/queries';
import { ActionForm, field } from '../../pieces/action';
import { useProof } from '../../pieces/proof';
import { Name, Section, When } from '../../pieces/text';

export function General() {
  const { data: session } = useSuspenseQuery(sessionQuery);
  const withProof = useProof();
  const client = useQueryClient();
  const account = session.account;
  const changeEmail = (fields: FormData) => withProof(() => done(api.POST('/account/email', { body: { email: field(fields, 'email').trim() } })));
  const changePassword = async (fields: FormData) => {
    const body = { old_password: field(fields, 'old_password'), new_password: field(fields, 'new_password') };
    await done(api.PUT('/account/password', { body }));
    await client.invalidateQueries({ queryKey: ['sessions'] });
  };
  return (
    <>
      <Section title="Account">
        <dl className="rows">
          <dt>E-mail</dt>
          <dd>
            <Name>{account.email}</Name>
          </dd>
          <dt>Made</dt>
          <dd>
            <When at={account.created_at} />
          </dd>
          {account.is_operator && (
            <>
              <dt>Operator</dt>
              <dd>Looks after this server: accounts, tickets, the whole audit log. It gives no access to projects.</dd>
            </>
          )}
        </dl>
      </Section>
      <Section title="Another e-mail address" about="A link goes to the new address; it counts once you open it, within an hour.">
        <ActionForm action={changeEmail} submit="Send the link" doneText="The link is on its way." label="Another e-mail address">
          <TextInput name="email" label="New e-mail" type="email" required autoComplete="email" maw="22rem" />
        </ActionForm>
      </Section>
      <Section title="Password" about="Every other session of the account ends with the change.">
        <ActionForm action={changePassword} submit="Change password" doneText="The password is changed." label="Password">
          <Stack gap="sm" maw="22rem">
            <input type="hidden" autoComplete="username" value={account.email} readOnly />
            <PasswordInput name="old_password" label="Password until now" autoComplete="current-password" required />
            <PasswordInput name="new_password" label="New password" autoComplete="new-password" minLength={8} required />
          </Stack>
        </ActionForm>
      </Section>
    </>
  );
}
