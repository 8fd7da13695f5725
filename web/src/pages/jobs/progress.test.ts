// How far a job is.
import { expect, it } from 'vitest';
import { partOf, told, type Progress } from './progress';

const progress: Progress = { phase: 'fetching', why: '', part: '2026-01-01', done: 3, total: 31, unit: 'days', records: 12_000, bytes: 0 };

it('a part is told where the whole is known', () => {
  expect([partOf(progress), partOf({ ...progress, total: 0 }), partOf({ ...progress, done: 40 })]).toEqual([9, undefined, 100]);
});

it('what it does, why it waits, and how much is done', () => {
  expect(told(progress)).toMatch(/^Fetching 2026-01-01 · 3 of 31 days · 12.000 records$/);
  expect(told({ ...progress, phase: 'waiting', why: 'the other side asks for a pause', total: 0, done: 0, records: 0 })).toBe('Waiting 2026-01-01: the other side asks for a pause');
  expect(told({ ...progress, phase: 'writing', part: '', total: 0, unit: 'rows', records: 0 })).toBe('Writing · 3 rows');
});
