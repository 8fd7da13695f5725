// Answers as lines.
import { expect, it } from 'vitest';
import { rowsOf, sheet } from './rows';

const series = JSON.parse('{"series": ["d1", "d2"], "values": {"small": {"d1": 1, "d2": 0}, "__proto__": {"d1": 2, "d2": 3}, "constructor": {"d1": 2, "d2": 1}}}') as never;

it('the largest line comes first, whatever it is called', () => {
  expect(rowsOf(series).map((row) => [row.name, row.all])).toEqual([['__proto__', 5], ['constructor', 3], ['small', 1]]);
});

it('users in all are no sum of days', () => {
  const whole = { series: ['d1'], values: { small: { d1: 1 } } };
  expect(rowsOf(series, whole).map((row) => [row.name, row.all])).toEqual([['small', 1], ['__proto__', 0], ['constructor', 0]]);
});

it('a file has a line a time', () => {
  expect(sheet(['d1', 'd2'], rowsOf(series))).toEqual([['date', '__proto__', 'constructor', 'small'], ['d1', 2, 2, 1], ['d2', 3, 1, 0]]);
});
