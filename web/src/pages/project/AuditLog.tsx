// The audit log: the newest rows first, found by a word, older ones on demand, all of it to take along.
import { Button, Group, Table, Text, TextInput } from '@mantine/core';
import { IconSearch } from '@tabler/icons-react';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { api, done, sentence } from '../../api/client';
import { accountsQuery, membersQuery } from '../../api/queries';
import { Problem, useAction } from '../../pieces/action';
import { csv, either, figure, who, type People } from '../../pieces/format';
import { save } from '../../pieces/save';
import { Empty } from '../../pieces/states';
import { Name, PageTitle, Section, When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';
import { matching, type Row } from './matching';
import { useProject } from './useProject';

const PAGE_ROWS = 200;

export function ProjectAuditLog() {
  const { project, id, isAdmin } = useProject();
  const members = useQuery(membersQuery(id));
  return (
    <>
      <PageTitle of={project.name}>Audit log</PageTitle>
      {isAdmin ? (
        <Log
          key={id}
          of={['project', id, 'audit']}
          name={`audit-project-${id}`}
          people={members.data ?? []}
          read={(query) => done(api.GET('/projects/{project}/audit', { params: { path: { project: id }, query } }))}
        />
      ) : (
        <Text size="sm">The audit log is for admins and owners: ask {either(project.owners)}.</Text>
      )}
    </>
  );
}

export function InstanceAuditLog() {
  const accounts = useQuery(accountsQuery);
  return (
    <>
      <PageTitle of="Instance">Audit log</PageTitle>
      <Log of={['audit']} name="audit" people={accounts.data ?? []} read={(query) => done(api.GET('/audit', { params: { query } }))} />
    </>
  );
}

function Log(props: { of: readonly (string | number)[]; name: string; people: People; read: (query: { before?: number; rows_max: number }) => Promise<Row[]> }) {
  const { find = '' } = useSearch({ strict: false });
  const navigate = useNavigate();
  const { run, busy, problem } = useAction();
  const page = (before: number | undefined, rows_max: number) => props.read({ rows_max, ...(before && { before }) });
  const log = useInfiniteQuery({
    queryKey: props.of,
    queryFn: ({ pageParam }) => page(pageParam, PAGE_ROWS),
    initialPageParam: undefined as number | undefined,
    getNextPageParam: (last: Row[]) => (last.length < PAGE_ROWS ? undefined : last.at(-1)?.id),
  });
  const rows = log.data?.pages.flat() ?? [];
  const shown = matching(rows, find, props.people);
  const setFind = (text: string) =>
    navigate({ to: '.', search: text ? { find: text } : {}, replace: true });
  /** Everything that the log has, whatever was read of it until now. */
  const take = (as: 'csv' | 'json') =>
    run(async () => {
      const all: Row[] = [];
      for (;;) {
        const next = await page(all.at(-1)?.id, 1000);
        all.push(...next);
        if (next.length < 1000) break;
      }
      const found = matching(all, find, props.people);
      const name = `${props.name}.${as}`;
      if (as === 'json') return save(name, 'application/json', JSON.stringify(found, null, 2));
      const head = ['id', 'at', 'actor', 'address', 'action', 'detail'];
      save(name, 'text/csv', csv([head, ...found.map((row) => [row.id, row.at, row.actor, row.address, row.action, row.detail])]));
    });
  return (
    <Section
      title="What happened"
      actions={
        <Group gap={6}>
          <Button variant="default" onClick={() => take('csv')} loading={busy}>
            Export CSV
          </Button>
          <Button variant="default" onClick={() => take('json')} loading={busy}>
            Export JSON
          </Button>
        </Group>
      }
    >
      <TextInput
        type="search"
        aria-label="Find in the log"
        placeholder="Find an actor, an action, an address …"
        leftSection={<IconSearch size={15} aria-hidden />}
        defaultValue={find}
        onChange={(event) => setFind(event.currentTarget.value)}
        maw="24rem"
        mb="sm"
      />
      {problem && <Problem>{problem}</Problem>}
      {log.isError && <Problem>{sentence(log.error)}</Problem>}
      {log.isPending ? (
        <Text size="sm" role="status">Reading …</Text>
      ) : shown.length === 0 ? (
        <Empty>{find ? `None of the ${figure(rows.length)} rows that were read has this word.` : 'Nothing happened yet.'}</Empty>
      ) : (
        <Wide minWidth={640} label="Audit log">
          <Table aria-label="Audit log">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>When</Table.Th>
                <Table.Th>Who</Table.Th>
                <Table.Th>What</Table.Th>
                <Table.Th>From where</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {shown.map((row) => (
                <Table.Tr key={row.id}>
                  <Table.Td style={{ whiteSpace: 'nowrap' }}>
                    <When at={row.at} />
                  </Table.Td>
                  <Table.Td>
                    <Name>{who(row.actor, props.people)}</Name>
                  </Table.Td>
                  <Table.Td>
                    <Text size="sm" fw={550}>
                      {row.action}
                    </Text>
                    <Text size="xs" c="dimmed">
                      <Name>{row.detail}</Name>
                    </Text>
                  </Table.Td>
                  <Table.Td className="value">{row.address}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Wide>
      )}
      {log.hasNextPage && (
        <Button variant="default" mt="sm" onClick={() => log.fetchNextPage()} loading={log.isFetchingNextPage}>
          Older rows
        </Button>
      )}
    </Section>
  );
}
