// The newest events of a user.
import { expect, it } from 'vitest';
import { eventsOf, newest, READ_ROWS_MAX, type FeedEvent } from './feed';

const line = (event: string, time: number) => JSON.stringify({ event, properties: { time, distinct_id: 'u', $insert_id: event, plan: 'pro' } });

it('lines in any order are events, the newest first', () => {
  const events = eventsOf(`${line('a', 1)}\n${line('c', 3)}\n${line('b', 2)}\n`);
  expect(events.map((event) => event.event)).toEqual(['c', 'b', 'a']);
  expect(events[0]).toEqual({ event: 'c', time: 3, id: 'c', properties: { distinct_id: 'u', plan: 'pro' } });
  expect(eventsOf('')).toEqual([]);
});

it('an answer that broke off is no answer', () => {
  expect(() => eventsOf(`${line('a', 1)}\nexport terminated early\n`)).toThrow('try again');
});

it('the newest are found where an export brings only some of them, and none is left out', async () => {
  // An event a second.
  const all: FeedEvent[] = Array.from({ length: 10_000 }, (_, time) => ({ event: 'e', time, id: String(time), properties: {} }));
  let reads = 0;
  const read = async (from: number, to: number) => {
    reads += 1;
    // Any of them: the oldest here.
    return all.filter((event) => event.time >= from && event.time < to).slice(0, READ_ROWS_MAX);
  };
  const found: FeedEvent[] = [];
  for (let to = 10_000; to > 0; ) {
    const piece = await newest(read, 0, to);
    expect(piece.events.length).toBeLessThan(READ_ROWS_MAX);
    found.push(...piece.events);
    to = piece.since;
  }
  expect(found.map((event) => event.time).sort((a, b) => a - b)).toEqual(all.map((event) => event.time));
  expect(reads).toBeLessThan(100);
});

it('more events in one second than an export brings end the search', async () => {
  const full = Array.from({ length: READ_ROWS_MAX }, () => ({ event: 'e', time: 9, id: '', properties: {} }));
  expect(await newest(async (from, to) => (from <= 9 && to > 9 ? full : []), 0, 10)).toEqual({ events: full, since: 9 });
});
