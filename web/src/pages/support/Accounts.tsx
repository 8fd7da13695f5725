// Every account of the instance, for its operators.
import { Badge, Group, Table, Text } from '@mantine/core';
import { useQuery, useQueryClient, useSuspenseQuery } from '@tanstack/react-query';
import { api, done, type Schemas } from '../../api/client';
import { accountsQuery, sessionQuery } from '../../api/queries';
import { Confirmed } from '../../pieces/action';
import { useProof } from '../../pieces/proof';
import { Loaded } from '../../pieces/states';
import { Name, PageTitle, Section, When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';

export function Accounts() {
  const accounts = useQuery(accountsQuery);
  return (
    <>
      <PageTitle>Accounts</PageTitle>
      <Section title="Everybody who can sign in" about="People come by an invitation to a project. An operator looks after the instance, and sees no project by it.">
        <Loaded query={accounts}>
          {(all) => (
            <Wide minWidth={560} label="Accounts">
              <Table aria-label="Accounts">
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>E-mail</Table.Th>
                    <Table.Th>Made</Table.Th>
                    <Table.Th>Second factor</Table.Th>
                    <Table.Th aria-label="Actions" />
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {all.map((account) => (
                    <AccountRow key={account.account_id} account={account} />
                  ))}
                </Table.Tbody>
              </Table>
            </Wide>
          )}
        </Loaded>
      </Section>
    </>
  );
}

function AccountRow({ account }: { account: Schemas['Account'] }) {
  const { data: session } = useSuspenseQuery(sessionQuery);
  const client = useQueryClient();
  const withProof = useProof();
  const path = { account: account.account_id };
  const after = () => client.invalidateQueries({ queryKey: accountsQuery.queryKey });
  const setOperator = async () => {
    await withProof(() => done(api.PATCH('/accounts/{account}', { params: { path }, body: { is_operator: !account.is_operator } })));
    await after();
  };
  const disable = async () => {
    await withProof(() => done(api.DELETE('/accounts/{account}', { params: { path } })));
    await after();
  };
  const isSelf = session.account.account_id === account.account_id;
  return (
    <Table.Tr>
      <Table.Td>
        <Group gap={6}>
          <Name>{account.email}</Name>
          {account.is_operator && (
            <Badge variant="default" size="sm" radius="sm" tt="none" fw={500}>
              operator
            </Badge>
          )}
        </Group>
      </Table.Td>
      <Table.Td>
        <When at={account.created_at} />
      </Table.Td>
      <Table.Td>{account.has_totp ? 'on' : 'off'}</Table.Td>
      <Table.Td>
        {account.disabled_at ? (
          <Text size="sm" ta="right">
            ended <When at={account.disabled_at} />
          </Text>
        ) : (
          <Group gap={4} justify="flex-end" wrap="nowrap">
            <Confirmed
              label={account.is_operator ? 'No operator' : 'Make operator'}
              ariaLabel={`${account.is_operator ? 'No operator' : 'Make operator'}: ${account.email}`}
              title="Operator"
              about={account.is_operator ? <><Name>{account.email}</Name> will not look after the instance any more.</> : <><Name>{account.email}</Name> will look after accounts, tickets and the whole audit log.</>}
              action={setOperator}
            />
            {!isSelf && (
              <Confirmed
                label="Disable"
                ariaLabel={`Disable ${account.email}`}
                title="Disable the account"
                about={<><Name>{account.email}</Name> cannot sign in any more; its sessions, bearer tokens and memberships end.</>}
                action={disable}
              />
            )}
          </Group>
        )}
      </Table.Td>
    </Table.Tr>
  );
}
