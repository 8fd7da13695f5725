// What a user did, the newest first, a month at a time.
import { Button, Group, Stack, Text } from '@mantine/core';
import { useInfiniteQuery } from '@tanstack/react-query';
import { sentence } from '../../api/client';
import { exported } from '../../api/reports';
import { Problem } from '../../pieces/action';
import { dayOf, figure } from '../../pieces/format';
import { Empty } from '../../pieces/states';
import { Name, Section, When } from '../../pieces/text';
import { PropertyTable } from '../../pieces/value';
import { quoted } from '../../pieces/where';
import { eventsOf, newest, READ_ROWS_MAX, type FeedEvent } from './feed';

const DAY_SECONDS = 86_400;
/** So far back one step looks. */
const STEP_DAYS = 30;

const at = (seconds: number) => new Date(seconds * 1000).toISOString();

export function Activity({ project, user }: { project: number; user: string }) {
  const feed = useInfiniteQuery({
    queryKey: ['project', project, 'user', user, 'activity'],
    queryFn: ({ pageParam, signal }) => {
      // What is of this second is of the next look.
      const to = pageParam ?? Math.floor(Date.now() / 1000) + 1;
      const read = async (from: number, until: number) => {
        const where = `properties["distinct_id"] == ${quoted(user)} and properties["time"] >= ${from} and properties["time"] < ${until}`;
        // Both ends are days of UTC; the last may not be after today.
        const days = { from_date: at(from).slice(0, 10), to_date: at(Math.min(until - 1, Date.now() / 1000)).slice(0, 10) };
        return eventsOf(await exported(project, { ...days, where, limit: READ_ROWS_MAX, dedup: 1 }, signal));
      };
      return newest(read, to - STEP_DAYS * DAY_SECONDS, to);
    },
    initialPageParam: undefined as number | undefined,
    getNextPageParam: (last) => last.since,
    // Each look leaves a row in the audit log: it is taken when somebody asks.
    staleTime: Infinity,
    refetchOnWindowFocus: false,
  });
  const events = feed.data?.pages.flatMap((piece) => piece.events) ?? [];
  const since = feed.data?.pages.at(-1)?.since;
  return (
    <Section
      title="Activity"
      actions={
        <Button variant="default" onClick={() => feed.refetch()} loading={feed.isRefetching}>
          Read again
        </Button>
      }
    >
      {feed.isError && <Problem>{sentence(feed.error)}</Problem>}
      {feed.isPending ? (
        <Text size="sm" role="status">
          Reading …
        </Text>
      ) : events.length === 0 ? (
        since !== undefined && <Empty>No event since {dayOf(at(since))}. Look further back, or send one with this distinct_id.</Empty>
      ) : (
        <>
          <Text size="sm" c="dimmed" role="status" mb={6}>
            {figure(events.length)} {events.length === 1 ? 'event' : 'events'} since {since !== undefined && dayOf(at(since))}
          </Text>
          <Events events={events} />
        </>
      )}
      {feed.hasNextPage && (
        <Button variant="default" mt="sm" onClick={() => feed.fetchNextPage()} loading={feed.isFetchingNextPage}>
          Look further back
        </Button>
      )}
    </Section>
  );
}

function Events({ events }: { events: FeedEvent[] }) {
  return (
    <Stack gap={0} component="ol" className="feed">
      {events.map((event, index) => (
        <li key={`${event.event}\n${event.id}\n${event.time}\n${index}`}>
          <details>
            <summary>
              <Group gap="sm" justify="space-between" wrap="nowrap" component="span">
                <Name>{event.event}</Name>
                <Text size="xs" c="dimmed" span>
                  <When at={at(event.time)} />
                </Text>
              </Group>
            </summary>
            <PropertyTable properties={event.properties} label={`Properties of ${event.event}`} />
          </details>
        </li>
      ))}
    </Stack>
  );
}
