// The address of the lexicon, and what it asks.
import { expect, it } from 'vitest';
import { askedOf, lexiconSearch, tagsOf } from './search';

it('an address is read as far as it makes sense', () => {
  expect(lexiconSearch({ view: 'toString', find: '', shown: 'none', sort: 'count' })).toEqual({});
  expect(lexiconSearch({ view: 'profiles', find: 'a', shown: 'dropped', sort: 'name' })).toEqual({ view: 'profiles', find: 'a', shown: 'dropped', sort: 'name' });
});

it('hidden names are left out until somebody asks for them', () => {
  expect(askedOf({}, 0)).toEqual({ hidden: false, sort: 'count', offset: 0, rows_max: 250 });
  expect(askedOf({ shown: 'hidden', find: 'x', sort: 'name' }, 250)).toEqual({ search: 'x', hidden: true, sort: 'name', offset: 250, rows_max: 250 });
  expect(askedOf({ shown: 'dropped' }, 0)).toEqual({ dropped: true, sort: 'count', offset: 0, rows_max: 250 });
  expect(askedOf({ shown: 'all' }, 0)).toEqual({ sort: 'count', offset: 0, rows_max: 250 });
});

it('tags are typed in one line', () => {
  expect(tagsOf(' a, b ,,a')).toEqual(['a', 'b']);
});
