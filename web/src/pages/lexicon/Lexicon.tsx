// The names of a project's events and properties: their types, how often they came, and what people say of them.
import { Badge, Button, Group, Modal, NativeSelect, Stack, Table, Tabs, Text, Textarea, TextInput } from '@mantine/core';
import { useDebouncedCallback } from '@mantine/hooks';
import { IconSearch } from '@tabler/icons-react';
import { useInfiniteQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { memo, useState } from 'react';
import { api, done, sentence, type Schemas } from '../../api/client';
import { ActionForm, Confirmed, field, Problem } from '../../pieces/action';
import { either, figure } from '../../pieces/format';
import { Empty } from '../../pieces/states';
import { Name, PageTitle, Section, TextLink, When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';
import { isAtLeast, useProject } from '../project/useProject';
import { askedOf, lexiconSearch, PAGE_ROWS, SHOWN, tagsOf, VIEWS, type LexiconSearch, type Shown, type View } from './search';

type Entry = Schemas['Name'];
type Change = Omit<Schemas['EventChange'], 'name'>;

export function Lexicon() {
  const { project, id } = useProject();
  const search = lexiconSearch(useSearch({ strict: false }));
  const navigate = useNavigate();
  const view = search.view ?? 'events';
  return (
    <>
      <PageTitle of={project.name}>Lexicon</PageTitle>
      {!isAtLeast(project.role, 'analyst') ? (
        <Text size="sm">The lexicon is for analysts, admins and owners: ask {either(project.owners)}.</Text>
      ) : (
        <Tabs value={view} onChange={(tab) => void navigate({ to: '.', search: lexiconSearch({ view: tab }) })} keepMounted={false}>
          <Tabs.List mb="md">
            {Object.entries(VIEWS).map(([value, label]) => (
              <Tabs.Tab key={value} value={value}>
                {label}
              </Tabs.Tab>
            ))}
          </Tabs.List>
          <Tabs.Panel value={view}>
            <Names key={`${id} ${view}`} view={view} search={search} />
          </Tabs.Panel>
        </Tabs>
      )}
    </>
  );
}

function Names({ view, search }: { view: View; search: LexiconSearch }) {
  const { id } = useProject();
  const navigate = useNavigate();
  const set = (next: LexiconSearch) => void navigate({ to: '.', search: lexiconSearch({ ...search, ...next }), replace: true });
  const setFind = useDebouncedCallback((find: string) => set({ find }), 300);
  const path = { project: id };
  const list = useInfiniteQuery({
    queryKey: ['project', id, 'lexicon', view, search],
    queryFn: ({ pageParam }) => {
      const asked = askedOf(search, pageParam);
      if (view === 'events') return done(api.GET('/projects/{project}/lexicon/events', { params: { path, query: asked } }));
      return done(api.GET('/projects/{project}/lexicon/properties', { params: { path, query: { ...asked, of: view === 'profiles' ? 'profile' : 'event' } } }));
    },
    initialPageParam: 0,
    getNextPageParam: (last, pages) => (pages.length * PAGE_ROWS < last.total ? pages.length * PAGE_ROWS : undefined),
    placeholderData: (before) => before,
  });
  const rows = list.data?.pages.flatMap((page) => page.names) ?? [];
  const { total = 0, count_beyond = 0 } = list.data?.pages[0] ?? {};
  return (
    <Section title={VIEWS[view]} about={view === 'events' ? undefined : 'A property that is sent with several types has all of them.'}>
      <Group gap="sm" mb="sm" align="flex-end">
        <TextInput
          type="search"
          aria-label="Find a name"
          placeholder="Find a name, a description, a tag …"
          leftSection={<IconSearch size={15} aria-hidden />}
          defaultValue={search.find}
          onChange={(event) => setFind(event.currentTarget.value)}
          w={{ base: '100%', xs: '20rem' }}
        />
        <NativeSelect
          aria-label="Which names"
          value={search.shown ?? ''}
          onChange={(event) => set({ shown: event.currentTarget.value as Shown })}
          data={Object.entries(SHOWN).map(([value, label]) => ({ value, label }))}
        />
        <NativeSelect
          aria-label="Order"
          value={search.sort ?? 'count'}
          onChange={(event) => set({ sort: event.currentTarget.value === 'name' ? 'name' : undefined })}
          data={[
            { value: 'count', label: 'Most frequent first' },
            { value: 'name', label: 'By name' },
          ]}
        />
      </Group>
      {list.isError && <Problem>{sentence(list.error)}</Problem>}
      {list.isPending ? (
        <Text size="sm" role="status">
          Reading …
        </Text>
      ) : rows.length === 0 ? (
        !list.isError && (
          <Empty>
            {search.find || search.shown ? (
              'No name fits.'
            ) : (
              <>
                No names yet: they come with the first record.{' '}
                <TextLink to="/app/projects/$project/start" params={{ project: String(id) }}>
                  Get started
                </TextLink>{' '}
                shows how to send one.
              </>
            )}
          </Empty>
        )
      ) : (
        <>
          <Text size="sm" c="dimmed" role="status" mb={4}>
            {figure(total)} {total === 1 ? 'name' : 'names'}
            {count_beyond > 0 && `; ${figure(count_beyond)} records came under names beyond those that are told apart`}
          </Text>
          <Entries rows={rows} view={view} />
        </>
      )}
      {list.hasNextPage && (
        <Button variant="default" mt="sm" onClick={() => list.fetchNextPage()} loading={list.isFetchingNextPage}>
          More names
        </Button>
      )}
    </Section>
  );
}

function Entries({ rows, view }: { rows: Entry[]; view: View }) {
  // One dialog for all rows: there may be thousands.
  const [open, setOpen] = useState<Entry>();
  return (
    <>
      <Wide minWidth={680} label={VIEWS[view]}>
        <Table aria-label={VIEWS[view]}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Name</Table.Th>
              {view !== 'events' && <Table.Th>Types</Table.Th>}
              <Table.Th ta="right">{view === 'profiles' ? 'Updates' : 'Events'}</Table.Th>
              <Table.Th>First seen</Table.Th>
              <Table.Th>Last seen</Table.Th>
              <Table.Td />
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {rows.map((entry) => (
              <Row key={entry.name} entry={entry} view={view} onOpen={setOpen} />
            ))}
          </Table.Tbody>
        </Table>
      </Wide>
      <Modal opened={open !== undefined} onClose={() => setOpen(undefined)} title={open && <Name>{open.name}</Name>}>
        {open && <ChangeForm key={open.name} entry={open} view={view} onDone={() => setOpen(undefined)} />}
      </Modal>
    </>
  );
}

const Row = memo(function Row({ entry, view, onOpen }: { entry: Entry; view: View; onOpen: (entry: Entry) => void }) {
  const said = [entry.display_name, entry.description, entry.tags.map((tag) => `#${tag}`).join(' ')].filter(Boolean);
  return (
    <Table.Tr>
      <Table.Td maw="24rem">
        <Name>{entry.name}</Name> {entry.hidden && <Mark>hidden</Mark>} {entry.dropped && <Mark>dropped</Mark>}
        {said.map((text, index) => (
          <Text key={index} size="xs" c="dimmed">
            <Name>{text}</Name>
          </Text>
        ))}
      </Table.Td>
      {view !== 'events' && <Table.Td>{entry.types.join(', ')}</Table.Td>}
      <Table.Td ta="right" className="figures">
        {figure(entry.count)}
      </Table.Td>
      <Table.Td>
        <When at={entry.first_seen_at} day />
      </Table.Td>
      <Table.Td>
        <When at={entry.last_seen_at} ago />
      </Table.Td>
      <Table.Td ta="right">
        <Button variant="default" size="compact-sm" onClick={() => onOpen(entry)} aria-label={`Change ${entry.name}`}>
          Change
        </Button>
      </Table.Td>
    </Table.Tr>
  );
});

function Mark({ children }: { children: string }) {
  return (
    <Badge variant="default" size="sm" radius="sm" tt="none" fw={500}>
      {children}
    </Badge>
  );
}

/** What people say of a name; for admins, whether it is shown and stored. */
function ChangeForm({ entry, view, onDone }: { entry: Entry; view: View; onDone: () => void }) {
  const { id, isAdmin, refresh } = useProject();
  const { name, hidden, dropped } = entry;
  const change = async (what: Change) => {
    const params = { path: { project: id } };
    if (view === 'events') await done(api.PATCH('/projects/{project}/lexicon/events', { params, body: { name, ...what } }));
    else await done(api.PATCH('/projects/{project}/lexicon/properties', { params, body: { name, of: view === 'profiles' ? 'profile' : 'event', ...what } }));
    await refresh();
    onDone();
  };
  const describe = (fields: FormData) =>
    change({ display_name: field(fields, 'display_name').trim(), description: field(fields, 'description').trim(), tags: tagsOf(field(fields, 'tags')) });
  const called = <Name>{name}</Name>;
  const isEvent = view === 'events';
  return (
    <Stack gap="md">
      <ActionForm
        action={describe}
        submit="Save"
        label="Describe"
        aside={
          <Button variant="default" onClick={onDone}>
            Cancel
          </Button>
        }
      >
        <TextInput name="display_name" label="Display name" description="What people call it." defaultValue={entry.display_name} autoComplete="off" data-autofocus />
        <Textarea name="description" label="Description" autosize minRows={2} defaultValue={entry.description} />
        <TextInput name="tags" label="Tags" description="With commas between them." defaultValue={entry.tags.join(', ')} autoComplete="off" />
      </ActionForm>
      {isAdmin && (
        <Group gap="xs">
          <Confirmed
            label={hidden ? 'Show in lists' : 'Hide in lists'}
            title={hidden ? 'Show it in lists again' : 'Hide it in lists'}
            confirm={hidden ? 'Show' : 'Hide'}
            about={hidden ? <>{called} stands in lists again.</> : <>{called} is left out of lists. It is stored, and queries find it, as before.</>}
            action={() => change({ hidden: !hidden })}
          />
          <Confirmed
            label={dropped ? 'Store it again' : 'Drop'}
            title={dropped ? 'Store it again' : 'Drop it'}
            confirm={dropped ? 'Store it' : 'Drop it'}
            color="red"
            variant="outline"
            about={
              dropped ? (
                <>{called} is stored again, from now on.</>
              ) : (
                <>
                  From now on {called} is not stored: {isEvent ? 'events of this name are thrown away' : 'it is left out of what comes'}. What is stored stays. What was dropped cannot be brought back.
                </>
              )
            }
            action={() => change({ dropped: !dropped })}
          />
        </Group>
      )}
    </Stack>
  );
}
