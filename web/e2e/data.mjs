// The project's data on the page: users, reports, events and their names. Whatever the public token brings is text there.
import assert from 'node:assert/strict';
import { person, problems, scenario, Server, signedIn, signIn, test } from './stage.mjs';

const OWNER = 'owner@example.com';
const CONSUMER = 'consumer@example.com';
const DAY_SECONDS = 86_400;

const send = async (server, path, records) => {
  const answer = await fetch(server.base + path, { method: 'POST', body: JSON.stringify(records), headers: { 'content-type': 'application/json' } });
  assert.equal(await answer.text(), '1', path);
};

const stage = scenario(async () => {
  const server = await Server.start();
  server.account(OWNER);
  server.account(CONSUMER);
  const shop = server.project('Shop', OWNER, { consumer: CONSUMER });
  const { token } = shop;
  const now = Math.floor(Date.now() / 1000);
  const profile = (id, properties) => ({ $token: token, $distinct_id: id, $set: properties });
  const people = Array.from({ length: 120 }, (_, at) => profile(`u${String(at).padStart(3, '0')}`, { $name: `Person ${at}`, plan: at % 3 === 0 ? 'pro' : 'free', age: at }));
  await send(server, '/engage', [...people, profile('..', { $name: 'Dots', big: 1 }), profile('ana/1?#', { $name: 'Ana', $email: 'ana@example.com', nested: { a: [1, 'two', null] } })]);
  const event = (name, id, days_ago, properties = {}) => ({ event: name, properties: { token, distinct_id: id, time: now - days_ago * DAY_SECONDS, $insert_id: `${name}-${id}-${days_ago}`, ...properties } });
  await send(server, '/track', [
    ...[0, 1, 2].map((ago) => event('Visit', 'ana/1?#', ago, { page: `/${ago}` })),
    event('Purchase', 'ana/1?#', 1, { amount: 12.5 }),
    event('Visit', 'u001', 1, { page: '/1' }),
  ]);
  const page = await signedIn(server, OWNER);
  return { server, shop, page, at: `/app/projects/${shop.project_id}` };
});

const cells = (page, label, column) => page.getByRole('table', { name: label }).locator(`tbody tr td:nth-child(${column})`).allInnerTexts();

test('Users: a word, conditions, columns and order find people, stand in the address and survive a reload', async () => {
  const { page, at } = await stage();
  await page.goto(`${at}/users`);
  await page.getByText('122 users, 100 of them shown').waitFor();
  await page.getByRole('button', { name: 'More users' }).click();
  await page.getByText('122 users', { exact: true }).waitFor();
  assert.equal((await cells(page, 'Users', 1)).length, 122);

  await page.getByRole('button', { name: 'Condition' }).click();
  const form = page.getByRole('form', { name: 'Condition' });
  await form.getByLabel('Property').fill('age');
  await form.getByLabel('Test').selectOption('is more than');
  await form.getByLabel('Value').fill('110');
  await page.keyboard.press('Enter');
  await page.getByText('9 users', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Condition' }).click();
  await form.getByLabel('Property').fill('plan');
  await form.getByLabel('Value').fill('pro');
  await form.getByRole('button', { name: 'Add' }).click();
  await page.getByText('3 users', { exact: true }).waitFor();

  await page.getByRole('button', { name: 'Columns' }).click();
  await page.getByRole('checkbox', { name: 'age', exact: true }).check();
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'age', exact: true }).click();
  await page.getByRole('columnheader', { name: 'age' }).and(page.locator('[aria-sort=ascending]')).waitFor();
  await page.getByRole('button', { name: 'age', exact: true }).click();
  await page.getByRole('columnheader', { name: 'age' }).and(page.locator('[aria-sort=descending]')).waitFor();
  await page.waitForFunction(() => document.querySelector('table[aria-label=Users] tbody td')?.textContent === 'u117');
  assert.deepEqual(await cells(page, 'Users', 5), ['117', '114', '111']);
  await page.reload();
  await page.getByText('3 users', { exact: true }).waitFor();
  assert.deepEqual(await cells(page, 'Users', 5), ['117', '114', '111']);
  await page.getByRole('button', { name: /^Take back: age/ }).click();
  await page.getByText('40 users', { exact: true }).waitFor();
  await page.getByLabel('Find users').fill('nobody at all');
  await page.getByText('Nobody fits.').waitFor();
});

test('Users: a profile shows its properties and what the user did, whatever the user is called', async () => {
  const { page, at } = await stage();
  await page.goto(`${at}/users`);
  await page.getByLabel('Find users').fill('ANA@example');
  await page.getByRole('link', { name: 'ana/1?#' }).click();
  await page.getByRole('heading', { name: 'Ana', exact: true }).waitFor();
  const properties = page.getByRole('table', { name: 'Properties', exact: true });
  await properties.getByText('{"a": [1, "two", null]}').waitFor();
  await page.getByText('4 events since').waitFor();
  const names = await page.locator('.feed summary .name').allInnerTexts();
  assert.deepEqual([names[0], names.at(-1), names.filter((name) => name === 'Purchase').length], ['Visit', 'Visit', 1]);
  await page.locator('.feed summary', { hasText: 'Purchase' }).click();
  await page.getByRole('table', { name: 'Properties of Purchase' }).getByText('12.5').waitFor();
  await page.getByRole('button', { name: 'Look further back' }).click();
  await page.getByText('4 events since').waitFor();
  // No part of a path: `..` is a name like any other.
  await page.goto(`${at}/users/profile?id=..`);
  await page.getByRole('heading', { name: 'Dots', exact: true }).waitFor();
  await page.getByText('No event since').waitFor();
  await page.goto(`${at}/users/profile?id=nobody`);
  await page.getByText('No profile of this distinct_id.').waitFor();
});

test('Users: whoever may not read profiles is told whom to ask', async () => {
  const { server, at } = await stage();
  const page = await signedIn(server, CONSUMER);
  assert.equal(await page.getByRole('link', { name: 'Users', exact: true }).count(), 0);
  for (const path of ['users', 'users/profile?id=u001']) {
    await page.goto(`${at}/${path}`);
    await page.getByText(`Users are for analysts, admins and owners: ask ${OWNER}.`).waitFor();
  }
  await page.context().close();
});
