// The users of a project: found by a word or by conditions on their properties, in columns that whoever looks chose.
import { Button, Checkbox, Group, Popover, ScrollArea, Stack, Table, Text, TextInput, UnstyledButton } from '@mantine/core';
import { useDebouncedCallback } from '@mantine/hooks';
import { IconArrowDown, IconArrowUp, IconColumns3, IconSearch } from '@tabler/icons-react';
import { useInfiniteQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useMemo } from 'react';
import { sentence } from '../../api/client';
import { profiles, type Profile } from '../../api/reports';
import { Problem } from '../../pieces/action';
import { Conditions } from '../../pieces/conditions';
import { either, figure } from '../../pieces/format';
import { Empty } from '../../pieces/states';
import { Name, PageTitle, Section, TextLink } from '../../pieces/text';
import { Value } from '../../pieces/value';
import { Wide } from '../../pieces/wide';
import { isAtLeast, useProject } from '../project/useProject';
import { askedOf, COLUMNS, PAGE_ROWS, usersSearch, type UsersSearch } from './search';

export function Users() {
  const { project } = useProject();
  return (
    <>
      <PageTitle of={project.name}>Users</PageTitle>
      {isAtLeast(project.role, 'analyst') ? <Found key={project.project_id} /> : <Text size="sm">Users are for analysts, admins and owners: ask {either(project.owners)}.</Text>}
    </>
  );
}

function Found() {
  const { id } = useProject();
  const search = usersSearch(useSearch({ strict: false }));
  const navigate = useNavigate();
  const set = (next: UsersSearch) => void navigate({ to: '.', search: usersSearch(next), replace: true });
  const setFind = useDebouncedCallback((find: string) => set({ ...search, find }), 300);
  const { find, where = [], columns = COLUMNS, sort, descending } = search;
  const list = useInfiniteQuery({
    queryKey: ['project', id, 'users', { find, where, sort, descending }],
    queryFn: ({ pageParam, signal }) => profiles(id, askedOf(search, pageParam), signal),
    initialPageParam: undefined as { page: number; session_id: string } | undefined,
    getNextPageParam: (last) => ((last.page + 1) * PAGE_ROWS < last.total ? { page: last.page + 1, session_id: last.session_id } : undefined),
    refetchOnWindowFocus: false,
    placeholderData: (before) => before,
  });
  const rows = useMemo(() => list.data?.pages.flatMap((page) => page.results) ?? [], [list.data]);
  const total = list.data?.pages[0]?.total ?? 0;
  const names = useMemo(() => namesIn(rows, columns), [rows, columns]);
  const isAsked = find !== undefined || where.length > 0;
  return (
    <Section title="People" actions={<Columns names={names} chosen={columns} onChange={(chosen) => set({ ...search, columns: chosen })} />}>
      <Stack gap="sm" mb="sm">
        <TextInput
          type="search"
          aria-label="Find users"
          placeholder="Find a distinct_id, an e-mail, a name …"
          leftSection={<IconSearch size={15} aria-hidden />}
          defaultValue={find}
          onChange={(event) => setFind(event.currentTarget.value)}
          maw="24rem"
        />
        <Conditions conditions={where} names={names} onChange={(next) => set({ ...search, where: next })} />
      </Stack>
      {list.isError && (
        <Stack gap="xs" align="flex-start" mb="sm">
          <Problem>{sentence(list.error)}</Problem>
          <Button variant="default" onClick={() => list.refetch()} loading={list.isFetching}>
            Try again
          </Button>
        </Stack>
      )}
      {list.isPending ? (
        <Text size="sm" role="status">
          Reading …
        </Text>
      ) : rows.length === 0 ? (
        !list.isError && (
          <Empty>
            {isAsked ? (
              'Nobody fits. Take a condition back, or find another word.'
            ) : (
              <>
                Nobody has a profile yet. It is made by <code>people.set</code> of an SDK:{' '}
                <TextLink to="/app/projects/$project/start" params={{ project: String(id) }}>
                  Get started
                </TextLink>{' '}
                shows how to send.
              </>
            )}
          </Empty>
        )
      ) : (
        <>
          <Text size="sm" c="dimmed" role="status" mb={4}>
            {figure(total)} {total === 1 ? 'user' : 'users'}
            {rows.length < total && `, ${figure(rows.length)} of them shown`}
          </Text>
          <People rows={rows} columns={columns} sort={sort} descending={descending} project={id} onSort={(by, down) => set({ ...search, sort: by, descending: down })} />
        </>
      )}
      {list.hasNextPage && (
        <Button variant="default" mt="sm" onClick={() => list.fetchNextPage()} loading={list.isFetchingNextPage}>
          More users
        </Button>
      )}
    </Section>
  );
}

/** The names of properties that the rows have, and the chosen ones. */
function namesIn(rows: Profile[], chosen: string[]): string[] {
  const names = new Set([...COLUMNS, ...chosen]);
  for (const row of rows) for (const name of Object.keys(row.$properties)) names.add(name);
  return [...names].sort((a, b) => a.localeCompare(b));
}

function People(props: {
  rows: Profile[];
  columns: string[];
  sort: string | undefined;
  descending: true | undefined;
  project: number;
  onSort: (by: string | undefined, descending: true | undefined) => void;
}) {
  const { rows, columns, sort, descending, project, onSort } = props;
  // Up, down, and as they come.
  const turn = (name: string) => (sort !== name ? onSort(name, undefined) : descending ? onSort(undefined, undefined) : onSort(name, true));
  return (
    <Wide minWidth={220 + columns.length * 130} label="Users">
      <Table aria-label="Users">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>distinct_id</Table.Th>
            {columns.map((name) => (
              <Table.Th key={name} aria-sort={sort !== name ? undefined : descending ? 'descending' : 'ascending'}>
                <UnstyledButton className="sort" onClick={() => turn(name)}>
                  <Name>{name}</Name> {sort === name && (descending ? <IconArrowDown size={12} aria-hidden /> : <IconArrowUp size={12} aria-hidden />)}
                </UnstyledButton>
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => (
            <Table.Tr key={row.$distinct_id}>
              <Table.Td>
                <TextLink to="/app/projects/$project/users/profile" params={{ project: String(project) }} search={{ id: row.$distinct_id }} size="sm">
                  <Name>{row.$distinct_id || 'empty'}</Name>
                </TextLink>
              </Table.Td>
              {columns.map((name) => (
                <Table.Td key={name}>
                  {/* A property may be called as something that every object has. */}
                  <Value value={Object.hasOwn(row.$properties, name) ? row.$properties[name] : undefined} whole={false} />
                </Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Wide>
  );
}

function Columns({ names, chosen, onChange }: { names: string[]; chosen: string[]; onChange: (chosen: string[]) => void }) {
  return (
    <Popover position="bottom-end" width={280} trapFocus transitionProps={{ duration: 0 }} shadow="md">
      <Popover.Target>
        <Button variant="default" leftSection={<IconColumns3 size={14} aria-hidden />}>
          Columns
        </Button>
      </Popover.Target>
      <Popover.Dropdown aria-label="Columns">
        <ScrollArea.Autosize mah="50vh" type="auto" viewportProps={{ tabIndex: -1 }}>
          <Checkbox.Group value={chosen} onChange={onChange} aria-label="Columns">
            <Stack gap={8}>
              {names.slice(0, 300).map((name) => (
                <Checkbox key={name} value={name} label={<Name>{name}</Name>} />
              ))}
            </Stack>
          </Checkbox.Group>
        </ScrollArea.Autosize>
        <Group mt="sm">
          <Button variant="default" size="compact-sm" onClick={() => onChange(COLUMNS)}>
            As at first
          </Button>
        </Group>
      </Popover.Dropdown>
    </Popover>
  );
}
