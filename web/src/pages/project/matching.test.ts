// Finding in the audit log.
import { expect, it } from 'vitest';
import { matching } from './matching';

const row = (action: string, detail: string) => ({ id: 1, at: '', project_id: 1, actor: 'account 7', address: '10.0.0.1', action, detail });

it('a word is found in any column and any case', () => {
  const rows = [row('reveal key', 'first'), row('export', '2026-01-01')];
  expect(matching(rows, 'REVEAL')).toHaveLength(1);
  expect(matching(rows, 'account 7')).toHaveLength(2);
  expect(matching(rows, '  ')).toHaveLength(2);
  expect(matching(rows, 'nothing')).toHaveLength(0);
});
