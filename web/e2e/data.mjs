// The project's data on the page: users, reports, events and their names. Whatever the public token brings is text there.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { problems, scenario, Server, signedIn, test } from './stage.mjs';

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

test('Insights: the address holds the whole question, the figures are exact, and the file has them', async () => {
  const { page, at } = await stage();
  await page.goto(`${at}/insights`);
  await page.getByRole('heading', { name: 'Visit', exact: true }).waitFor();
  // An event on each of three days, and a second one yesterday.
  await page.getByRole('table', { name: 'Figures' }).getByRole('row', { name: /^Visit 4 / }).waitFor();
  await page.getByLabel('Days', { exact: true }).selectOption('Last 7 days');
  await page.getByRole('combobox', { name: 'By property' }).fill('pag');
  await page.getByRole('option', { name: 'page', exact: true }).click();
  await page.getByLabel('Counted').selectOption('Users');
  const table = page.getByRole('table', { name: 'Figures' });
  await table.getByRole('columnheader', { name: 'Users in all' }).waitFor();
  const sums = async () => (await table.locator('tbody tr').allInnerTexts()).map((row) => row.split(/\s+/).slice(0, 2));
  assert.deepEqual(await sums(), [['/1', '2'], ['/0', '1'], ['/2', '1']]);
  assert.equal(await table.locator('thead th').count(), 9);
  const address = page.url();
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download CSV' }).click();
  const lines = (await readFile(await (await download).path(), 'utf8')).trim().split('\r\n');
  assert.equal(lines[0], 'date,/1,/0,/2');
  assert.equal(lines.length, 8);
  assert.match(lines[6], /^\d{4}-\d{2}-\d{2},2,0,0$/);

  // Somebody else opens the same address.
  const { server } = await stage();
  const other = await signedIn(server, CONSUMER);
  await other.goto(address);
  await other.getByRole('table', { name: 'Figures' }).getByRole('row', { name: /^\/1 2 / }).waitFor();
  assert.equal(await other.getByRole('combobox', { name: 'By property' }).inputValue(), 'page');
  await other.context().close();

  // A line that has no colour is none.
  assert.match(await page.locator('.chart .line path').first().evaluate((path) => getComputedStyle(path).stroke), /^rgb\(/);

  // The keyboard goes through the times.
  const chart = page.getByRole('slider', { name: 'Visit, by day' });
  await chart.focus();
  await page.keyboard.press('End');
  assert.match(await chart.getAttribute('aria-valuetext'), /: \/1 0, \/0 1, \/2 0$/);
  await page.keyboard.press('ArrowLeft');
  assert.match(await chart.getAttribute('aria-valuetext'), /: \/1 2, \/0 0, \/2 0$/);

  await page.getByRole('button', { name: 'Condition' }).click();
  const form = page.getByRole('form', { name: 'Condition' });
  await form.getByLabel('Property').fill('page');
  await form.getByLabel('Value').fill('/9');
  await form.getByRole('button', { name: 'Add' }).click();
  await page.getByText('Nothing was counted.').waitFor();
  await page.goto(`${at}/insights?from=2020-01-01&to=2020-01-31`);
  await page.getByText('No event from 2020-01-01 to 2020-01-31.').waitFor();
});

/** An event of the list, opened. */
const opened = async (page, name) => {
  const row = page.locator('.feed > li', { hasText: name }).first();
  await row.locator('summary').click();
  return row;
};

test('Events: they come in as they are sent, by filter, with exact counts, and stand still while paused', async () => {
  const { server, shop, page, at } = await stage();
  const { token } = shop;
  const event = (name, properties) => ({ event: name, properties: { token, distinct_id: 'live', ...properties } });
  await page.goto(`${at}/events`);
  await page.getByText('Waiting for an event.').waitFor();
  await page.getByText('live', { exact: true }).waitFor();
  await send(server, '/track', [event('Came', { plan: 'pro' })]);
  const row = await opened(page, 'Came');
  await row.getByRole('table', { name: 'Properties of Came' }).getByText('pro', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Pause' }).click();
  await send(server, '/track', Array.from({ length: 2000 }, (_, n) => event('Many', { n })).slice(0, 2000));
  await page.locator('[data-accepted="2001"]').waitFor();
  assert.equal(await page.locator('.feed > li').count(), 1);
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.locator('.feed > li', { hasText: 'Many' }).first().waitFor();
  assert.ok((await page.locator('.feed > li').count()) <= 100);
  await page.getByText('counted and not shown: too many to read').waitFor();

  const form = page.getByRole('form', { name: 'Which events' });
  await form.getByLabel('Any property').fill('TEAM');
  await form.getByRole('button', { name: 'Look', exact: true }).click();
  await page.getByText('Nothing like it came yet.').waitFor();
  await page.getByText('live', { exact: true }).waitFor();
  await send(server, '/track', [event('Other', { plan: 'free' }), event('Fits', { plan: 'team' })]);
  await page.locator('.feed > li', { hasText: 'Fits' }).waitFor();
  await page.locator('[data-accepted="1"]').waitFor();
  assert.equal(await page.locator('.feed > li').count(), 1);
  await page.reload();
  assert.equal(await form.getByLabel('Any property').inputValue(), 'TEAM');
});

test('Events: what was not stored as it was sent has its reason, its samples, and an end', async () => {
  const { server, shop, page, at } = await stage();
  await page.goto(`${at}/events`);
  await page.getByText('live', { exact: true }).waitFor();
  const old = { event: 'Too old', properties: { token: shop.token, distinct_id: 'u', time: 'yesterday' } };
  await fetch(`${server.base}/track`, { method: 'POST', body: JSON.stringify([old]), headers: { 'content-type': 'application/json' } });
  await page.locator('.feed > li', { hasText: 'Too old' }).getByText(/^(rejected|changed|dropped): /).waitFor();
  await page.getByRole('tab', { name: 'Rejected and changed' }).click();
  const reason = page.locator('.feed > li').first();
  await reason.locator('summary').click();
  await reason.getByText('Too old').waitFor();
  assert.ok(!(await page.content()).includes(shop.token));
  await page.reload();
  await page.getByRole('tab', { name: 'Rejected and changed', selected: true }).waitFor();
  await page.getByRole('button', { name: 'Forget them' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Forget them' }).click();
  await page.getByText('Everything was stored as it was sent.').waitFor();
});

test('Events: the operator sees tokens that nobody owns', async () => {
  const { server, page } = await stage();
  const stray = { event: 'Stray', properties: { token: 'stray-token-of-nobody', distinct_id: 'u' } };
  await fetch(`${server.base}/track`, { method: 'POST', body: JSON.stringify([stray]), headers: { 'content-type': 'application/json' } });
  await page.goto('/app');
  await page.getByRole('link', { name: 'Unknown tokens' }).click();
  await page.getByRole('row', { name: /…body 1 / }).waitFor();
});

test('Lexicon: names with types and counts are found, described, hidden and dropped', async () => {
  const { server, shop, page, at } = await stage();
  await page.goto(`${at}/lexicon`);
  await page.getByRole('row', { name: /^Visit 4 / }).waitFor();
  const dialog = page.getByRole('dialog');
  /** Opens what is to change of a name, and there what takes a question. */
  const ask = async (name, what) => {
    await page.getByRole('button', { name: `Change ${name}` }).click();
    if (what) await dialog.getByRole('button', { name: what, exact: true }).click();
  };
  await ask('Visit');
  await dialog.getByLabel('Description').fill('Somebody looked');
  await dialog.getByLabel('Tags').fill('web, shop');
  await dialog.getByRole('button', { name: 'Save' }).click();
  await page.getByText('#web #shop').waitFor();
  await page.getByLabel('Find a name').fill('looked');
  await page.getByText('1 name', { exact: true }).waitFor();

  await ask('Visit', 'Hide in lists');
  await dialog.getByRole('button', { name: 'Hide', exact: true }).click();
  await page.getByText('No name fits.').waitFor();
  await page.getByLabel('Which names').selectOption('Hidden');
  await ask('Visit', 'Show in lists');
  await dialog.getByRole('button', { name: 'Show', exact: true }).click();
  await page.getByText('No name fits.').waitFor();

  await page.goto(`${at}/lexicon`);
  await ask('Purchase', 'Drop');
  await dialog.getByText('What was dropped cannot be').waitFor();
  await dialog.getByRole('button', { name: 'Drop it', exact: true }).click();
  await page.getByRole('row', { name: /^Purchase ?dropped/ }).waitFor();
  const purchase = { event: 'Purchase', properties: { token: shop.token, distinct_id: 'late' } };
  await fetch(`${server.base}/track`, { method: 'POST', body: JSON.stringify([purchase]), headers: { 'content-type': 'application/json' } });
  await page.goto(`${at}/users/profile?id=late`);
  await page.getByText('No event since').waitFor();

  await page.goto(`${at}/lexicon?view=properties`);
  await page.getByRole('row', { name: /^page string 4 / }).waitFor();
  await page.getByRole('tab', { name: 'Profile properties' }).click();
  await page.getByRole('row', { name: /^age number 120 / }).waitFor();
});

test('Imports and exports: progress is seen in every tab, an end by hand too, and what came of it', async () => {
  const { server } = await stage();
  const project = server.project('History', OWNER);
  const id = String(project.project_id);
  // A source that keeps whoever asks waiting.
  const source = createServer((_request, answer) => answer.writeHead(200, { 'content-type': 'text/plain' }).flushHeaders());
  await new Promise((listening) => source.listen(0, '127.0.0.1', listening));
  const page = await signedIn(server, OWNER);
  const other = await page.context().newPage();
  for (const tab of [page, other]) {
    await tab.goto(`/app/projects/${id}/jobs`);
    await tab.getByText('Nothing was imported or exported yet.').waitFor();
  }
  const from = `http://127.0.0.1:${source.address().port}`;
  const pulling = server.begin(['import', '--project', id, '--from', from, '--api-secret-stdin', '--events', '--from-date', '2026-01-01', '--to-date', '2026-01-03'], 'a secret');
  for (const tab of [page, other]) await tab.locator('.feed > li', { hasText: 'import 1' }).getByText(/^Fetching/).waitFor();
  await page.getByRole('button', { name: 'Cancel import 1' }).click();
  await page.getByRole('dialog').getByText('The same import again goes on where it ended.').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel the import' }).click();
  for (const tab of [page, other]) await tab.locator('.feed > li', { hasText: 'import 1' }).getByText('cancelled', { exact: true }).waitFor();
  source.closeAllConnections();
  source.close();
  await pulling;

  const line = (n) => JSON.stringify({ event: 'Old', properties: { time: 1767225600 + n, distinct_id: 'u', $insert_id: `old${n}` } });
  server.cli(['import', '--project', id, '-'], [0, 1, 2].map(line).join('\n'));
  const done = other.locator('.feed > li', { hasText: 'import 2' });
  await done.getByText('done', { exact: true }).waitFor();
  await done.getByText('1 day, each as the source has it').click();
  await other.getByRole('table', { name: 'Days of import 2' }).getByRole('row', { name: /^2026-01-01 3 3 0 0 3 0/ }).waitFor();
  await page.getByRole('button', { name: 'Import from Mixpanel' }).click();
  await page.getByRole('dialog').getByLabel('Secret', { exact: true }).waitFor();
  await page.context().close();
});

/** Names as somebody would send them who wants the page to do something. */
function hostileNames(count) {
  const shapes = [
    (n) => `<img src=x onerror=alert(${n})>`,
    (n) => `"><script>alert(${n})</script>`,
    (n) => `</script><svg onload=alert(${n})>`,
    (n) => `javascript:alert(${n})`,
    (n) => `{{constructor.constructor('alert(${n})')()}}`,
    (n) => `\u202Egnp.${n}\u2066exe`,
    (n) => `';alert(${n});//`,
    (n) => `=cmd|' /C calc'!A${n}`,
    (n) => `../../${n}?a=%00#<b>`,
    (n) => `${n}${'é\u0301'.repeat(60)}`,
  ];
  const known = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'null', 'undefined', '[]', '{}'];
  return [...known, ...Array.from({ length: count - known.length }, (_, n) => shapes[n % shapes.length](n))];
}

test('1,500 hostile names that the public token brought are text on Events, Lexicon, Insights and Users, and nothing runs', async () => {
  const { server } = await stage();
  const project = server.project('Hostile', OWNER);
  const names = hostileNames(1500);
  assert.equal(new Set(names).size, 1500);
  const { token } = project;
  const page = await signedIn(server, OWNER);
  let ran = 0;
  page.on('dialog', (dialog) => {
    ran += 1;
    void dialog.dismiss();
  });
  const at = `/app/projects/${project.project_id}`;
  /** The names that stand in some elements as text, of those that were sent. */
  const shown = async (selector) => {
    const texts = new Set(await page.locator(selector).evaluateAll((found) => found.map((element) => element.textContent)));
    return names.filter((name) => !texts.has(name));
  };

  await page.goto(`${at}/events`);
  await page.getByText('live', { exact: true }).waitFor();
  await send(server, '/track', names.map((name, n) => ({ event: name, properties: { token, distinct_id: name, $insert_id: `h${n}`, [name]: name, value: name } })));
  await page.locator('[data-accepted="1500"]').waitFor();
  // What is on the screen of so many is a sample.
  await page.locator('.feed > li').nth(20).waitFor();
  for (const summary of await page.locator('.feed summary').all()) await summary.evaluate((element) => element.click());
  const seen = await page.locator('.feed summary').evaluateAll((found) => found.map((element) => element.querySelector('bdi').textContent));
  assert.deepEqual(seen.filter((name) => !names.includes(name)), []);
  await send(server, '/engage', names.map((name) => ({ $token: token, $distinct_id: name, $set: { [name]: name, $name: name } })));

  for (const [view, label] of [['events', 'Events'], ['properties', 'Event properties'], ['profiles', 'Profile properties']]) {
    await page.goto(`${at}/lexicon?view=${view}`);
    await page.getByText(/^1,50\d names$/).waitFor();
    const more = page.getByRole('button', { name: 'More names' });
    const rows = page.getByRole('table', { name: label }).locator('tbody tr');
    for (let read = 250; read < 1500; read += 250) {
      await more.click();
      await rows.nth(read).waitFor();
    }
    // Some views have names of the protocol too: a last page has them.
    if (await more.isVisible()) await more.click();
    await more.waitFor({ state: 'detached' });
    assert.deepEqual(await shown(`table[aria-label="${label}"] tbody td:nth-child(1) bdi`), [], view);
  }

  await page.goto(`${at}/users`);
  const more = page.getByRole('button', { name: 'More users' });
  for (let pages = 1; pages < 15; pages++) {
    await more.click();
    const all = pages === 14 ? '' : `, ${((pages + 1) * 100).toLocaleString('en')} of them shown`;
    await page.getByText(`1,500 users${all}`, { exact: true }).waitFor();
  }
  assert.deepEqual(await shown('table[aria-label=Users] tbody td:nth-child(1) bdi'), []);
  for (const name of ['__proto__', names[8], names[20]]) {
    await page.goto(`${at}/users/profile?id=${encodeURIComponent(JSON.stringify(name))}`);
    await page.getByRole('heading', { level: 2, name, exact: true }).waitFor();
    await page.locator('.feed summary').click();
    await page.getByRole('table', { name: `Properties of ${name}` }).waitFor();
  }

  await page.goto(`${at}/insights?event=${encodeURIComponent(JSON.stringify(names[8]))}&by=${encodeURIComponent(JSON.stringify(names[8]))}`);
  await page.getByRole('table', { name: 'Figures' }).locator('bdi', { hasText: names[8] }).first().waitFor();
  await page.getByRole('combobox', { name: 'Event' }).click();
  await page.locator('[role=listbox] [role=option]').nth(names.length - 1).waitFor();
  assert.deepEqual(await shown('[role=listbox] [role=option] bdi'), []);

  assert.equal(await page.locator('img, [onerror], [onload]').count(), 0);
  assert.deepEqual([ran, problems], [0, []]);
  await page.context().close();
});
