// The address of a report, and what it asks.
import { expect, it } from 'vitest';
import { askedOf, begun, dayIn, daysOf, insightsSearch, lengthOf, plusDays, unitOf, wallIn } from './search';

it('an address is read as far as it makes sense', () => {
  const whole = { event: '{}', from: '2026-01-01', to: '2026-01-31', unit: 'week' as const, type: 'unique' as const, by: 'plan', where: [{ property: 'a', test: 'set' as const }] };
  expect(insightsSearch(whole)).toEqual(whole);
  expect(insightsSearch({ event: 3, range: 'toString', from: '2026-02-31x', to: '2026-03-01', unit: 'year', type: 'general', by: '', where: [] })).toEqual({});
  expect(insightsSearch({ range: '7d', from: '2026-02-02', to: '2026-02-01' })).toEqual({ range: '7d' });
  expect(insightsSearch({ range: '7d', from: '2026-02-01', to: '2026-02-02' })).toEqual({ from: '2026-02-01', to: '2026-02-02' });
});

it('days are those of the zone of the project', () => {
  const now = Date.parse('2026-11-25T23:30:00Z');
  expect([dayIn('UTC', now), dayIn('Asia/Tokyo', now), dayIn('America/Los_Angeles', now)]).toEqual(['2026-11-25', '2026-11-26', '2026-11-25']);
  expect([wallIn('Europe/Berlin', now), wallIn('UTC', Date.parse('2026-11-25T00:00:00Z'))]).toEqual(['2026-11-26 00:30:00', '2026-11-25 00:00:00']);
  expect([plusDays('2026-03-01', -1), plusDays('2024-02-28', 1)]).toEqual(['2026-02-28', '2024-02-29']);
});

it('a range ends today and has as many days as it says', () => {
  const days = (range?: 'today' | '7d' | '30d' | '12m') => daysOf({ range }, '2026-11-25');
  expect([lengthOf(days('today')), lengthOf(days('7d')), lengthOf(days()), lengthOf(days('12m'))]).toEqual([1, 7, 30, 365]);
  expect(days('7d')).toEqual({ from_date: '2026-11-19', to_date: '2026-11-25' });
  // A change of the clocks takes no day away.
  expect(lengthOf({ from_date: '2026-03-28', to_date: '2026-03-30' })).toBe(3);
});

it('the unit fits the days, and users are counted by days at least', () => {
  expect([unitOf({}, 1), unitOf({}, 30), unitOf({}, 365), unitOf({ type: 'unique' }, 1)]).toEqual(['hour', 'day', 'week', 'day']);
  expect([unitOf({ unit: 'month' }, 30), unitOf({ unit: 'hour', type: 'unique' }, 30)]).toEqual(['month', 'day']);
});

it('users in all are counted in one bucket, events are added up', () => {
  const days = { from_date: '2026-01-01', to_date: '2026-01-10' };
  const { series, whole } = askedOf({ event: 'Buy', type: 'unique', by: 'a"b' }, days);
  expect(series).toEqual({ event: 'Buy', ...days, type: 'unique', unit: 'day', where: undefined, on: 'properties["a\\"b"]', limit: 100 });
  expect(whole).toMatchObject({ interval: 10, type: 'unique' });
  expect(whole).not.toHaveProperty('unit');
  expect(askedOf({ event: 'Buy' }, days).whole).toBeUndefined();
});

it('what is yet to come is no zero', () => {
  expect(begun(['2026-11-25 22:00:00', '2026-11-25 23:00:00', '2026-11-26 00:00:00'], '2026-11-25 23:30:00')).toEqual(['2026-11-25 22:00:00', '2026-11-25 23:00:00']);
  expect(begun(['2026-11-24', '2026-11-25', '2026-11-26'], '2026-11-25 00:00:00')).toEqual(['2026-11-24', '2026-11-25']);
});
