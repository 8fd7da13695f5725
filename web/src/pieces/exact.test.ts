// Values as they were sent.
import { expect, it } from 'vitest';
import { exact, textOf, typeOf } from './exact';

it('what a double does not hold is no other number', () => {
  const written = (JSON.parse as (text: string, reviver: (name: string, value: unknown, context?: { source?: string }) => unknown) => unknown)('1', (_name, _value, context) => context?.source);
  const value = exact('{"id": 9007199254740993, "part": 1e300, "small": 12}') as { id: unknown };
  // Where the browser does not tell how a number was written, it is the nearest double.
  expect(textOf(value as never)).toBe(`{"id": ${written === undefined ? '9007199254740992' : '9007199254740993'}, "part": 1e+300, "small": 12}`);
});

it('a text is itself, everything else is JSON', () => {
  expect([textOf('a "b"'), textOf(null), textOf(true), textOf(['a', 1n, { b: null }]), textOf(undefined)]).toEqual(['a "b"', 'null', 'true', '["a", 1, {"b": null}]', '']);
});

it('types have the field\'s words', () => {
  expect([null, true, 1, 1n, 'a', [], {}].map((value) => typeOf(value as never))).toEqual(['null', 'boolean', 'number', 'number', 'string', 'list', 'object']);
});
