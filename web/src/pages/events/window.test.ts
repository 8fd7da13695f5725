// What is on the screen of a stream.
import { expect, it } from 'vitest';
import { eventOf, newestFirst, refusalOf, SHOWN_MAX } from './window';

it('an event has its name, its user and all that came with it', () => {
  const seen = eventOf('{"event":"Buy","properties":{"time":1,"distinct_id":"u","amount":3}}', 7, 99);
  expect(seen).toEqual({ key: 7, at: 99, name: 'Buy', user: 'u', properties: { time: 1, distinct_id: 'u', amount: 3 } });
});

it('a record that was not stored is shown as far as it can be', () => {
  const refusal = (record: string) => refusalOf(JSON.stringify({ reason: 'old', outcome: 'rejected', field: 'time', record }), 1, 2);
  expect(refusal('{"event":"Buy","properties":{"distinct_id":"u"}}')).toMatchObject({ name: 'Buy', user: 'u', refused: { reason: 'old', outcome: 'rejected', field: 'time' } });
  // Cut, a list, or empty since a secret stood in it.
  expect(refusal('{"event":"Bu…')).toMatchObject({ name: '', user: '', properties: { record: '{"event":"Bu…' } });
  expect(refusal('[1]')).toMatchObject({ name: '', properties: { record: '[1]' } });
  expect(refusal('')).toMatchObject({ name: '', properties: {} });
});

it('the newest stand first, and no more than fit', () => {
  const many = Array.from({ length: SHOWN_MAX + 20 }, (_, key) => eventOf('{"event":"e","properties":{}}', key, 0));
  const rows = newestFirst(newestFirst([], many.slice(0, 20)), many.slice(20));
  expect(rows.map((row) => row.key)).toEqual(Array.from({ length: SHOWN_MAX }, (_, at) => SHOWN_MAX + 19 - at));
});
