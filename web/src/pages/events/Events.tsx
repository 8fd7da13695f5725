// Events as they come in, and what was not stored as it was sent.
import { Badge, Button, Group, Stack, Tabs, Text, TextInput } from '@mantine/core';
import { IconPlayerPause, IconPlayerPlay } from '@tabler/icons-react';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useState, type FormEvent } from 'react';
import { field, Problem } from '../../pieces/action';
import { either, figure } from '../../pieces/format';
import { Empty } from '../../pieces/states';
import { Name, PageTitle, Section, TextLink } from '../../pieces/text';
import { PropertyTable } from '../../pieces/value';
import { isAtLeast, useProject } from '../project/useProject';
import { Rejections } from './Rejections';
import { eventsSearch, type EventsSearch } from './search';
import { useLive, type Live } from './useLive';
import { inWords, type Seen } from './window';

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });

export function Events() {
  const { project, id } = useProject();
  const { view = 'live', ...filter } = eventsSearch(useSearch({ strict: false }));
  const navigate = useNavigate();
  const open = (next: EventsSearch) => void navigate({ to: '.', search: eventsSearch(next) });
  return (
    <>
      <PageTitle of={project.name}>Events</PageTitle>
      <Tabs value={view} onChange={(tab) => open(tab === 'rejected' ? { view: 'rejected' } : {})} keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="live">Live</Tabs.Tab>
          <Tabs.Tab value="rejected">Rejected and changed</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="live">
          <LiveView key={id} filter={filter} onFilter={open} />
        </Tabs.Panel>
        <Tabs.Panel value="rejected">
          {isAtLeast(project.role, 'analyst') ? <Rejections key={id} /> : <Text size="sm">What was rejected is for analysts, admins and owners: ask {either(project.owners)}.</Text>}
        </Tabs.Panel>
      </Tabs>
    </>
  );
}

function LiveView({ filter, onFilter }: { filter: EventsSearch; onFilter: (filter: EventsSearch) => void }) {
  const { project, id } = useProject();
  const [isPaused, setPaused] = useState(false);
  const live = useLive(id, filter, isPaused);
  const isFiltered = Object.keys(filter).length > 0;
  const look = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    onFilter({ event: field(fields, 'event'), distinct_id: field(fields, 'distinct_id'), text: field(fields, 'text') });
  };
  return (
    <Section
      title="As they come in"
      actions={
        <Button
          variant="default"
          leftSection={isPaused ? <IconPlayerPlay size={14} aria-hidden /> : <IconPlayerPause size={14} aria-hidden />}
          onClick={() => setPaused(!isPaused)}
        >
          {isPaused ? 'Go on' : 'Pause'}
        </Button>
      }
    >
      <Stack gap="sm">
        <form onSubmit={look} aria-label="Which events" key={JSON.stringify(filter)}>
          <Group gap="xs" align="flex-end">
            <TextInput name="event" label="Event" defaultValue={filter.event} autoComplete="off" w={{ base: '100%', xs: '12rem' }} />
            <TextInput name="distinct_id" label="distinct_id" defaultValue={filter.distinct_id} autoComplete="off" w={{ base: '100%', xs: '12rem' }} />
            <TextInput name="text" label="Any property" defaultValue={filter.text} autoComplete="off" w={{ base: '100%', xs: '12rem' }} />
            <Button type="submit" size="sm" variant="default">
              Look
            </Button>
            {isFiltered && (
              <Button size="sm" variant="default" onClick={() => onFilter({})}>
                Look at all
              </Button>
            )}
          </Group>
        </form>
        <Figures live={live} isFiltered={isFiltered} />
        {live.state === 'closed' && (
          <Stack gap="xs" align="flex-start">
            <Problem>The stream ended. Too many may look at once, or you may have been signed out.</Problem>
            <Button variant="default" onClick={live.restart}>
              Try again
            </Button>
          </Stack>
        )}
        {live.rows.length === 0 ? (
          <Empty>
            {isPaused ? (
              'Paused.'
            ) : isFiltered ? (
              'Nothing like it came yet. Look at all, or send one.'
            ) : (
              <>
                {project.archived_at ? 'The project is archived: it takes no events.' : 'Waiting for an event.'}{' '}
                <TextLink to="/app/projects/$project/start" params={{ project: String(id) }}>
                  Get started
                </TextLink>{' '}
                shows how to send one.
              </>
            )}
          </Empty>
        ) : (
          <Stack gap={0} component="ol" className="feed" aria-label="Events">
            {live.rows.map((seen) => (
              <Row key={seen.key} seen={seen} />
            ))}
          </Stack>
        )}
      </Stack>
    </Section>
  );
}

const STATES: Record<Live['state'], string> = { opening: 'opening …', open: 'live', again: 'the server cannot be reached, trying again …', closed: 'ended' };

/** Counts are exact; what is shown of many is a sample. */
function Figures({ live, isFiltered }: { live: Live; isFiltered: boolean }) {
  const { accepted, rejected, sampled_out, missed } = live.counts;
  return (
    <Group gap="lg" className="figures">
      <Text size="sm" span>
        <strong data-accepted={accepted}>{figure(accepted)}</strong> {isFiltered ? 'like it' : accepted === 1 ? 'event' : 'events'} since {clock.format(live.since)}
      </Text>
      {rejected > 0 && (
        <Text size="sm" span>
          <strong>{figure(rejected)}</strong> rejected or changed
        </Text>
      )}
      {sampled_out + missed > 0 && (
        <Text size="sm" c="dimmed" span>
          {figure(sampled_out + missed)} counted and not shown: too many to read
        </Text>
      )}
      <Text size="sm" c="dimmed" span role="status">
        {STATES[live.state]}
      </Text>
    </Group>
  );
}

function Row({ seen }: { seen: Seen }) {
  const { refused } = seen;
  return (
    <li>
      <details>
        <summary>
          <Group gap="sm" justify="space-between" wrap="nowrap" component="span">
            <Group gap="xs" component="span" miw={0}>
              {seen.name && <Name>{seen.name}</Name>}
              {refused && (
                <Badge variant="outline" size="sm" radius="sm" tt="none" fw={500} color="red" c="var(--mantine-color-text)">
                  {refused.outcome}: {inWords(refused.reason)}
                </Badge>
              )}
              <Text size="xs" c="dimmed" span>
                <Name>{seen.user}</Name>
              </Text>
            </Group>
            <Text size="xs" c="dimmed" span className="whole">
              {clock.format(seen.at)}
            </Text>
          </Group>
        </summary>
        {refused?.field && (
          <Text size="sm" my={4}>
            At fault: <Name>{refused.field}</Name>
          </Text>
        )}
        <PropertyTable properties={seen.properties} label={`Properties of ${seen.name || 'a record'}`} />
      </details>
    </li>
  );
}
