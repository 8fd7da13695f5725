// A report: how often an event happened, or how many users did it, over time and by a property. The address holds all of it.
import { Button, Group, NativeSelect, Select, Stack, Table, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { namesOfEvents, namesOfProperties, segmentation } from '../../api/reports';
import { Conditions } from '../../pieces/conditions';
import { csv, figure } from '../../pieces/format';
import { save } from '../../pieces/save';
import { Empty, Loaded } from '../../pieces/states';
import { Name, PageTitle, Section, TextLink } from '../../pieces/text';
import { Wide } from '../../pieces/wide';
import { useProject } from '../project/useProject';
import { LineChart, LINES_MAX, Swatch } from './LineChart';
import { rowsOf, sheet, type Row } from './rows';
import { askedOf, begun, dayIn, daysOf, insightsSearch, lengthOf, RANGES, unitOf, UNITS, VALUES_MAX, wallIn, type InsightsSearch, type Range, type Unit } from './search';

/** The list shows so many names at a time; typing finds the others. */
const OPTIONS_MAX = 2000;

export function Insights() {
  const { project, id } = useProject();
  const search = insightsSearch(useSearch({ strict: false }));
  const today = dayIn(project.timezone, Date.now());
  const days = daysOf(search, today);
  // What has no event of late may have one in the days that are asked for.
  const names = useQuery({ queryKey: ['project', id, 'names-of-events', days], queryFn: ({ signal }) => namesOfEvents(id, days, signal), staleTime: 30_000, placeholderData: (before) => before });
  const event = search.event ?? names.data?.[0];
  return (
    <>
      <PageTitle of={project.name}>Insights</PageTitle>
      <Stack gap="md">
        <Section title="Question">
          <Question search={search} event={event} events={names.data ?? []} days={days} today={today} />
        </Section>
        {event !== undefined ? (
          <Answer search={{ ...search, event }} days={days} today={today} />
        ) : (
          <Loaded query={names}>
            {() => (
              <Section title="Answer">
                <Empty>
                  No event from {days.from_date} to {days.to_date}. Choose other days, or{' '}
                  <TextLink to="/app/projects/$project/start" params={{ project: String(id) }}>
                    send the first one
                  </TextLink>
                  .
                </Empty>
              </Section>
            )}
          </Loaded>
        )}
      </Stack>
    </>
  );
}

type Days = { from_date: string; to_date: string };

function Question({ search, event, events, days, today }: { search: InsightsSearch; event: string | undefined; events: string[]; days: Days; today: string }) {
  const { id } = useProject();
  const navigate = useNavigate();
  const set = (next: InsightsSearch) => void navigate({ to: '.', search: insightsSearch({ ...search, event, ...next }) });
  const properties = useQuery({
    queryKey: ['project', id, 'names-of-properties', event, days],
    queryFn: ({ signal }) => namesOfProperties(id, event!, days, signal),
    enabled: event !== undefined,
    staleTime: 30_000,
  });
  // A name may be called as something that every object has: the list keeps its entries by value.
  const known = (names: string[], chosen: string | undefined) => [...new Set(chosen === undefined ? names : [...names, chosen])].map((name) => ({ value: `=${name}`, label: name }));
  const option = ({ option }: { option: { label: string } }) => <Name>{option.label}</Name>;
  return (
    <Stack gap="sm">
      <Group gap="sm" align="flex-end">
        <Select
          label="Event"
          data={known(events, event)}
          value={event === undefined ? null : `=${event}`}
          onChange={(value) => value !== null && set({ event: value.slice(1), by: undefined, where: undefined })}
          searchable
          limit={OPTIONS_MAX}
          allowDeselect={false}
          nothingFoundMessage="No event is called so"
          renderOption={option}
          placeholder="No events"
          w={{ base: '100%', xs: 260 }}
        />
        <NativeSelect
          label="Counted"
          value={search.type ?? 'general'}
          onChange={(change) => set({ type: change.currentTarget.value === 'unique' ? 'unique' : undefined })}
          data={[
            { value: 'general', label: 'Events' },
            { value: 'unique', label: 'Users' },
          ]}
        />
        <Select
          label="By property"
          data={known(properties.data ?? [], search.by)}
          value={search.by === undefined ? null : `=${search.by}`}
          onChange={(by) => set({ by: by?.slice(1) })}
          searchable
          clearable
          clearButtonProps={{ 'aria-label': 'By no property', 'aria-hidden': false, tabIndex: 0 }}
          limit={OPTIONS_MAX}
          nothingFoundMessage="No property is called so"
          renderOption={option}
          placeholder="None"
          w={{ base: '100%', xs: 220 }}
        />
      </Group>
      <Group gap="sm" align="flex-end">
        <NativeSelect
          label="Days"
          value={search.from === undefined ? (search.range ?? '30d') : 'dates'}
          onChange={(change) => set(change.currentTarget.value === 'dates' ? { from: days.from_date, to: days.to_date } : { from: undefined, to: undefined, range: change.currentTarget.value as Range })}
          data={[...Object.entries(RANGES).map(([value, label]) => ({ value, label })), { value: 'dates', label: 'From … to …' }]}
        />
        <TextInput type="date" label="From" value={days.from_date} max={days.to_date} onChange={(change) => set({ from: change.currentTarget.value, to: days.to_date })} />
        <TextInput type="date" label="To" value={days.to_date} min={days.from_date} max={today} onChange={(change) => set({ from: days.from_date, to: change.currentTarget.value })} />
        <NativeSelect
          label="Unit"
          value={unitOf(search, lengthOf(days))}
          onChange={(change) => set({ unit: change.currentTarget.value as Unit })}
          data={UNITS.map((unit) => ({ value: unit, label: unit, disabled: unit === 'hour' && search.type === 'unique' }))}
        />
      </Group>
      <Conditions conditions={search.where ?? []} names={properties.data ?? []} onChange={(where) => set({ where })} />
    </Stack>
  );
}

function Answer({ search, days, today }: { search: InsightsSearch & { event: string }; days: Days; today: string }) {
  const { project, id } = useProject();
  const asked = askedOf(search, days);
  const answer = useQuery({
    queryKey: ['project', id, 'insights', asked],
    queryFn: async ({ signal }) => {
      const [series, whole] = await Promise.all([segmentation(id, asked.series, signal), asked.whole && segmentation(id, asked.whole, signal)]);
      const times = begun(series.series, wallIn(project.timezone, Date.now()));
      return { times, rows: rowsOf({ ...series, series: times }, whole) };
    },
    staleTime: 30_000,
  });
  const download = (times: string[], rows: Row[]) => save(`insights-${days.from_date}-${days.to_date}.csv`, 'text/csv', csv(sheet(times, rows)));
  const { data } = answer;
  return (
    <Section
      title={search.event}
      about={`${search.type === 'unique' ? 'Users' : 'Events'} from ${days.from_date} to ${days.to_date}, in the project's time zone.`}
      actions={
        <Group gap={6}>
          <Button variant="default" onClick={() => answer.refetch()} loading={answer.isRefetching}>
            Read again
          </Button>
          <Button variant="default" disabled={!data || data.rows.length === 0} onClick={() => data && download(data.times, data.rows)}>
            Download CSV
          </Button>
        </Group>
      }
    >
      <Loaded query={answer} lines={6}>
        {({ times, rows }) =>
          rows.every((row) => row.all === 0) ? (
            <Empty>Nothing was counted. Choose other days, or take a condition back.</Empty>
          ) : (
            <Stack gap="sm">
              <LineChart times={times} rows={rows} label={`${search.event}, by ${asked.series.unit}`} unfinished={days.to_date >= today} />
              <Figures times={times} rows={rows} by={search.by} unique={search.type === 'unique'} />
            </Stack>
          )
        }
      </Loaded>
    </Section>
  );
}

function Figures({ times, rows, by, unique }: { times: string[]; rows: Row[]; by: string | undefined; unique: boolean }) {
  return (
    <>
      {rows.length > LINES_MAX && (
        <Text size="sm" c="dimmed" role="status">
          {`The ${LINES_MAX} largest are drawn; the table has ${rows.length < VALUES_MAX ? 'all' : `the ${VALUES_MAX} most frequent`}.`}
        </Text>
      )}
      <Wide minWidth={260 + times.length * 84} label="Figures">
        <Table aria-label="Figures" className="sheet">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{by === undefined ? 'Event' : <Name>{by}</Name>}</Table.Th>
              <Table.Th ta="right">{unique ? 'Users in all' : 'In all'}</Table.Th>
              {times.map((time) => (
                <Table.Th key={time} ta="right">
                  {time.slice(0, 16)}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {rows.map((row, index) => (
              <Table.Tr key={row.name}>
                <Table.Th scope="row" fw={400}>
                  <span className="legend">
                    {index < LINES_MAX && <Swatch index={index} />}
                    <Name>{row.name}</Name>
                  </span>
                </Table.Th>
                <Table.Td ta="right" className="figures" fw={600}>
                  {figure(row.all)}
                </Table.Td>
                {row.numbers.map((number, at) => (
                  <Table.Td key={at} ta="right" className="figures">
                    {figure(number)}
                  </Table.Td>
                ))}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Wide>
    </>
  );
}
