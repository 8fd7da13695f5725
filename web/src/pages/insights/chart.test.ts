// Where lines and marks stand.
import { expect, it } from 'vitest';
import { labelled, marks, nearest, pathOf } from './chart';

it('marks are round, begin at zero and reach the greatest number', () => {
  expect(marks(97)).toEqual([0, 25, 50, 75, 100]);
  expect(marks(4)).toEqual([0, 1, 2, 3, 4]);
  expect(marks(1)).toEqual([0, 1]);
  expect(marks(0)).toEqual([0, 1]);
  for (let max = 1; max < 5000; max += 7) {
    const found = marks(max);
    expect(found.at(-1)).toBeGreaterThanOrEqual(max);
    expect(found.length).toBeLessThanOrEqual(6);
    expect(found.every(Number.isInteger)).toBe(true);
  }
});

it('labels stand evenly and as far apart as they need', () => {
  expect(labelled(30, 10)).toEqual([0, 3, 6, 9, 12, 15, 18, 21, 24, 27]);
  expect([labelled(1, 10), labelled(3, 0)]).toEqual([[0], [0]]);
});

it('a line goes through each number', () => {
  expect(pathOf([1, 2], (index) => index * 10, (value) => value)).toBe('M0.0 1.0L10.0 2.0');
});

it('a pointer is at the nearest place', () => {
  expect([nearest(0, 5), nearest(0.49, 5), nearest(2, 5), nearest(-1, 5), nearest(0.5, 1)]).toEqual([0, 2, 4, 0, 0]);
});
