// Figures, instants, lists and files as people read them.
import { expect, it } from 'vitest';
import { csv, either, ownAddress, since, who } from './format';

it('a cell that a spreadsheet would run is text', () => {
  expect(csv([['=1+1', '+1', '-1', '@x', 'a,b', 'a"b', 'a\nb', 3, null]])).toBe(`'=1+1,'+1,'-1,'@x,"a,b","a""b","a\nb",3,\r\n`);
  expect(csv([['\t=1', -3]])).toBe(`'\t=1,-3\r\n`);
});

it('signing in leads to this page and nowhere else', () => {
  for (const own of ['/app', '/app/projects/1/start?sdk=node', '/confirm-email', '/invitation']) expect(ownAddress(own)).toBe(own);
  for (const other of ['//evil.example', 'https://evil.example', '/\\evil.example', '/app\\..', '/apple', 'javascript:alert(1)', '', undefined, 3]) {
    expect(ownAddress(other)).toBe('/app');
  }
});

it('how long ago is told in the largest unit that it fills', () => {
  const now = Date.parse('2026-11-25T12:00:00Z');
  expect(since('2026-11-25T11:59:30Z', now)).toBe('just now');
  expect(since('2026-11-25T11:30:00Z', now)).toMatch(/30 min/);
  expect(since('2026-11-25T02:00:00Z', now)).toMatch(/10 h/);
  expect(since('2026-11-20T02:00:00Z', now)).toMatch(/5 d/);
  expect(since('no time', now)).toBe('no time');
});

it('whom to ask is a list with `or`', () => {
  expect([either([]), either(['a']), either(['a', 'b']), either(['a', 'b', 'c'])]).toEqual(['', 'a', 'a or b', 'a, b or c']);
});

it('an account is told by its address where that is known', () => {
  const people = [{ account_id: 7, email: 'a@example.com' }];
  expect([who('account 7', people), who('account 77', people), who('console', people)]).toEqual(['a@example.com', 'account 77', 'console']);
});
