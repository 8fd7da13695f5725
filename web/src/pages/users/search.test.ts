// The address of the list of users, and what it asks.
import { expect, it } from 'vitest';
import { askedOf, usersSearch } from './search';

it('an address is read as far as it makes sense', () => {
  expect(usersSearch({ find: 3, where: 'x', columns: ['a', 1, 'b'], sort: '', descending: 'yes' })).toEqual({ columns: ['a', 'b'] });
  const whole = { find: 'ana', where: [{ property: 'plan', test: 'is' as const, value: 'pro' }], columns: [], sort: 'plan', descending: true as const };
  expect(usersSearch(whole)).toEqual(whole);
});

it('a first page asks for everything, a further one for the rows of its session', () => {
  const search = usersSearch({ find: 'ana', where: [{ property: 'plan', test: 'set' }], sort: 'a"b', descending: true });
  expect(askedOf(search, undefined)).toEqual({
    search: 'ana',
    where: '(defined(properties["plan"]))',
    page_size: 100,
    sort_key: 'properties["a\\"b"]',
    sort_order: 'descending',
  });
  expect(askedOf(search, { page: 2, session_id: 's' })).toEqual({ session_id: 's', page: 2, page_size: 100 });
});
