// Conditions, and the expressions that say the same.
import { expect, it } from 'vitest';
import { conditionsIn, whereOf } from './where';

it('each condition has its expression, and all of them hold', () => {
  const one = (test: 'is' | 'not' | 'has' | 'over' | 'under' | 'set' | 'unset', value?: string) => whereOf([{ property: 'p', test, value }]);
  expect(one('is', 'pro')).toBe('((properties["p"] == "pro"))');
  expect(one('is', '5')).toBe('((properties["p"] == "5" or properties["p"] == 5))');
  expect(one('is', 'true')).toBe('((properties["p"] == "true" or properties["p"] == true))');
  expect(one('not', 'pro')).toBe('(not (properties["p"] == "pro"))');
  expect(one('has', 'a')).toBe('("a" in properties["p"])');
  expect([one('over', '-1.5'), one('under', '2026-01-01')]).toEqual(['(properties["p"] > -1.5)', '(properties["p"] < "2026-01-01")']);
  expect([one('set'), one('unset')]).toEqual(['(defined(properties["p"]))', '(not defined(properties["p"]))']);
  expect(whereOf([{ property: 'a', test: 'set' }, { property: 'b', test: 'unset' }])).toBe('(defined(properties["a"])) and (not defined(properties["b"]))');
  expect(whereOf([])).toBeUndefined();
});

it('no name and no value ends its quotes', () => {
  const hostile = `"] or true or properties["\\\n`;
  const text = whereOf([{ property: hostile, test: 'is', value: hostile }])!;
  // What is left without the quoted texts is the shape that was meant.
  expect(text.replace(/"(?:[^"\\]|\\.)*"/g, '…')).toBe('((properties[…] == …))');
});

it('an address that was typed by hand is read as far as it makes sense', () => {
  expect(conditionsIn([{ property: 'a', test: 'is', value: 'x', more: 1 }, { property: 'b', test: 'toString' }, null, 3, { test: 'is' }, { property: 'c', test: 'set', value: 'y' }])).toEqual([
    { property: 'a', test: 'is', value: 'x' },
    { property: 'c', test: 'set' },
  ]);
  expect([conditionsIn('x'), conditionsIn(undefined)]).toEqual([[], []]);
});
