// Tokens that nobody owns: an app that was set up wrong, or one whose project is gone.
import { Table } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { api, done } from '../../api/client';
import { Confirmed } from '../../pieces/action';
import { figure } from '../../pieces/format';
import { Empty, Loaded } from '../../pieces/states';
import { PageTitle, Section, When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';

export function UnknownTokens() {
  const client = useQueryClient();
  const tokens = useQuery({ queryKey: ['unknown-tokens'], queryFn: () => done(api.GET('/unknown-tokens')), refetchInterval: 10_000 });
  const clear = async () => {
    await done(api.DELETE('/unknown-tokens'));
    await client.invalidateQueries({ queryKey: ['unknown-tokens'] });
  };
  return (
    <>
      <PageTitle of="Instance">Unknown tokens</PageTitle>
      <Section
        title="Records that belong to no project"
        about="They were answered as if they had been taken, and are stored nowhere. Look for the app that sends them."
        actions={
          (tokens.data?.length ?? 0) > 0 && <Confirmed label="Forget them" title="Forget unknown tokens" about="The counts begin anew." action={clear} />
        }
      >
        <Loaded query={tokens}>
          {(list) =>
            list.length === 0 ? (
              <Empty>Every record came with the token of a project.</Empty>
            ) : (
              <Wide minWidth={520} label="Unknown tokens">
                <Table aria-label="Unknown tokens">
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th>Token</Table.Th>
                      <Table.Th ta="right">Records</Table.Th>
                      <Table.Th>First seen</Table.Th>
                      <Table.Th>Last seen</Table.Th>
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {list.map((found) => (
                      <Table.Tr key={found.token}>
                        <Table.Td>
                          <bdi className="value">{found.token || 'none'}</bdi>
                        </Table.Td>
                        <Table.Td ta="right" className="figures">
                          {figure(found.count)}
                        </Table.Td>
                        <Table.Td>
                          <When at={found.first_seen_at} />
                        </Table.Td>
                        <Table.Td>
                          <When at={found.last_seen_at} ago />
                        </Table.Td>
                      </Table.Tr>
                    ))}
                  </Table.Tbody>
                </Table>
              </Wide>
            )
          }
        </Loaded>
      </Section>
    </>
  );
}
