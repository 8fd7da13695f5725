// Reasons of what was not stored as it was sent.
import { expect, it } from 'vitest';
import { byReason } from './reasons';

it('days of a reason are added up, the most frequent reason first, each with its own samples', () => {
  const day = (day: string, reason: string, count: number) => ({ day, reason, outcome: 'rejected', help: `help of ${reason}`, count, last_seen_at: `${day}T12:00:00Z` });
  const sample = (reason: string) => ({ at: '2026-01-02T12:00:00Z', reason, field: 'time', record: '{}' });
  const found = byReason({ counts: [day('2026-01-02', 'a', 1), day('2026-01-02', 'b', 4), day('2026-01-01', 'a', 2)], samples: [sample('b'), sample('a')] });
  expect(found.map(({ reason, count, last, help, days, samples }) => [reason, count, last, help, days.length, samples.length])).toEqual([
    ['b', 4, '2026-01-02T12:00:00Z', 'help of b', 1, 1],
    ['a', 3, '2026-01-02T12:00:00Z', 'help of a', 2, 1],
  ]);
});
