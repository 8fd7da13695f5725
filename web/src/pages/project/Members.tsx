// Who may what in the project: members, invitations, and handing it over.
import { Group, NativeSelect, Stack, Table, Text, TextInput } from '@mantine/core';
import { useQuery, useQueryClient, useSuspenseQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, done, type Role, type Schemas } from '../../api/client';
import { invitationsQuery, membersQuery, sessionQuery, transferQuery } from '../../api/queries';
import { ActionForm, Confirmed, field, Problem, useAction } from '../../pieces/action';
import { Copyable } from '../../pieces/copy';
import { either } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { Empty, Loaded } from '../../pieces/states';
import { Name, RoleBadge, Section, When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';
import { useProject } from './useProject';

const ROLES: { value: Role; label: string }[] = [
  { value: 'consumer', label: 'consumer: reports' },
  { value: 'analyst', label: 'analyst: reports, export, profiles' },
  { value: 'admin', label: 'admin: settings, keys, members' },
  { value: 'owner', label: 'owner: everything, reset too' },
];

export function Members() {
  const { project, isAdmin, isOwner, id } = useProject();
  const members = useQuery(membersQuery(id));
  return (
    <>
      <Section title="Members" about={isAdmin ? undefined : `Roles are given by admins and owners: ask ${either(project.owners)}.`}>
        <Loaded query={members}>
          {(all) => (
            <Wide minWidth={460} label="Members">
              <Table aria-label="Members">
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>E-mail</Table.Th>
                    <Table.Th>Role</Table.Th>
                    <Table.Th aria-label="Actions" />
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {all.map((member) => (
                    <MemberRow key={member.account_id} member={member} />
                  ))}
                </Table.Tbody>
              </Table>
            </Wide>
          )}
        </Loaded>
      </Section>
      {isAdmin && <Invitations />}
      {isOwner && <Transfer />}
    </>
  );
}

function MemberRow({ member }: { member: Schemas['Member'] }) {
  const { project, id, isAdmin, isOwner, refresh } = useProject();
  const { data: session } = useSuspenseQuery(sessionQuery);
  const client = useQueryClient();
  const navigate = useNavigate();
  const withProof = useProof();
  const { run, problem } = useAction();
  const isSelf = member.account_id === session.account.account_id;
  const path = { project: id, account: member.account_id };
  const mayChange = isOwner || (isAdmin && member.role !== 'owner');
  const setRole = (role: Role) =>
    run(async () => {
      await withProof(() => done(api.PUT('/projects/{project}/members/{account}', { params: { path }, body: { role } })));
      await refresh();
    });
  const remove = async () => {
    await withProof(() => done(api.DELETE('/projects/{project}/members/{account}', { params: { path } })));
    if (isSelf) {
      await navigate({ to: '/app/account/$tab', params: { tab: 'projects' } });
      client.removeQueries({ queryKey: ['project', id] });
    }
    await client.invalidateQueries();
  };
  return (
    <Table.Tr>
      <Table.Td>
        <Name>{member.email}</Name> {isSelf && <Text span size="xs" c="dimmed">(you)</Text>}
      </Table.Td>
      <Table.Td>
        {mayChange ? (
          <Stack gap={4}>
            <NativeSelect
              size="xs"
              maw="17rem"
              aria-label={`Role of ${member.email}`}
              value={member.role}
              data={isOwner ? ROLES : ROLES.filter((role) => role.value !== 'owner')}
              onChange={(event) => setRole(event.currentTarget.value as Role)}
            />
            {problem && <Problem>{problem}</Problem>}
          </Stack>
        ) : (
          <RoleBadge role={member.role} />
        )}
      </Table.Td>
      <Table.Td ta="right">
        {(mayChange || isSelf) && (
          <Confirmed
            label={isSelf ? 'Leave' : 'Remove'}
            ariaLabel={isSelf ? 'Leave the project' : `Remove ${member.email}`}
            title={isSelf ? 'Leave the project' : 'Remove a member'}
            about={isSelf ? <>You will not see <Name>{project.name}</Name> any more.</> : <><Name>{member.email}</Name> will not see the project any more. Their bearer tokens stop working on it at once.</>}
            action={remove}
          />
        )}
      </Table.Td>
    </Table.Tr>
  );
}

function Invitations() {
  const { id, isOwner } = useProject();
  const client = useQueryClient();
  const withProof = useProof();
  const [made, setMade] = useState<Schemas['NewInvitation']>();
  const waiting = useQuery(invitationsQuery(id));
  const path = { project: id };
  const after = () => client.invalidateQueries({ queryKey: invitationsQuery(id).queryKey });
  const invite = async (fields: FormData) => {
    const body = { email: field(fields, 'email').trim(), role: field(fields, 'role') as Role };
    setMade(await withProof(() => done(api.POST('/projects/{project}/invitations', { params: { path }, body }))));
    await after();
  };
  const withdraw = async (invitation: number) => {
    await done(api.DELETE('/projects/{project}/invitations/{invitation}', { params: { path: { ...path, invitation } } }));
    if (made?.invitation_id === invitation) setMade(undefined);
    await after();
  };
  return (
    <Section title="Invitations" about="Whoever opens the link becomes a member. It counts once, within two weeks.">
      <ActionForm action={invite} submit="Invite" label="Invite">
        <Group align="flex-end" gap="sm">
          <TextInput name="email" label="E-mail" type="email" required autoComplete="off" w="17rem" />
          <NativeSelect name="role" label="Role" defaultValue="analyst" data={isOwner ? ROLES : ROLES.filter((role) => role.value !== 'owner')} />
        </Group>
      </ActionForm>
      {made && (
        <Stack gap={4} mt="md" role="status">
          <Text size="sm">
            The link was mailed to <Name>{made.email}</Name>. If no mail arrives there, hand it over yourself; it is shown only now:
          </Text>
          <Copyable value={made.link} label="invitation link" />
        </Stack>
      )}
      <Loaded query={waiting} lines={1}>
        {(all) =>
          all.length === 0 ? (
            <Empty>No invitation waits.</Empty>
          ) : (
            <Table aria-label="Invitations" mt="md">
              <Table.Tbody>
                {all.map((invitation) => (
                  <Table.Tr key={invitation.invitation_id}>
                    <Table.Td>
                      <Name>{invitation.email}</Name>
                    </Table.Td>
                    <Table.Td>
                      <RoleBadge role={invitation.role} />
                    </Table.Td>
                    <Table.Td>
                      until <When at={invitation.expires_at} />
                    </Table.Td>
                    <Table.Td ta="right">
                      <Confirmed
                        label="Withdraw"
                        ariaLabel={`Withdraw the invitation of ${invitation.email}`}
                        title="Withdraw the invitation"
                        about={<>The link that <Name>{invitation.email}</Name> has will not work any more.</>}
                        action={() => withdraw(invitation.invitation_id)}
                      />
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )
        }
      </Loaded>
    </Section>
  );
}

function Transfer() {
  const { id } = useProject();
  const client = useQueryClient();
  const withProof = useProof();
  const offer = useQuery(transferQuery(id));
  const path = { project: id };
  const after = () => client.invalidateQueries({ queryKey: transferQuery(id).queryKey });
  const make = async (fields: FormData) => {
    await withProof(() => done(api.POST('/projects/{project}/transfer', { params: { path }, body: { email: field(fields, 'email').trim() } })));
    await after();
  };
  const end = async () => {
    await withProof(() => done(api.DELETE('/projects/{project}/transfer', { params: { path } })));
    await after();
  };
  return (
    <Section title="Ownership" about="Hand the project over to another account. It owns the project once it accepts, within a week; you become an admin then.">
      <Loaded query={offer} lines={1}>
        {(standing) =>
          standing ? (
            <Group gap="sm">
              <Text size="sm">
                Offered to <Name>{standing.to_email}</Name> until <When at={standing.expires_at} />.
              </Text>
              <Confirmed label="Take the offer back" title="Take the offer back" about="The project stays with you." action={end} />
            </Group>
          ) : (
            <ActionForm action={make} submit="Offer the project" label="Ownership">
              <TextInput name="email" label="E-mail of the account" type="email" required autoComplete="off" maw="17rem" />
            </ActionForm>
          )
        }
      </Loaded>
    </Section>
  );
}
