// The founding document, as people do it: F1 to F11 of the page, role by role.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { call, person, prove, scenario, Server, signedIn, test } from './stage.mjs';

const OWNER = 'owner@example.com';
const ADMIN = 'admin@example.com';
const ANALYST = 'analyst@example.com';
const CONSUMER = 'consumer@example.com';
const OPERATOR = 'operator@example.com';
const NEVER = 'Never share this API secret or send it over email.';

const stage = scenario(async () => {
  const server = await Server.start();
  // The first account of an instance is its operator.
  for (const email of [OPERATOR, OWNER, ADMIN, ANALYST, CONSUMER]) server.account(email);
  const shop = server.project('Shop', OWNER, { admin: ADMIN, analyst: ANALYST, consumer: CONSUMER });
  const blog = server.project('Blog', OWNER);
  return { server, shop, blog };
});

const send = (server, token, event) =>
  fetch(`${server.base}/track`, { method: 'POST', body: JSON.stringify([{ event, properties: { token, distinct_id: 'u' } }]), headers: { 'content-type': 'application/json' } }).then((answer) => answer.text());
const names = async (server, secret) => {
  const headers = { authorization: `Basic ${Buffer.from(`${secret}:`).toString('base64')}` };
  const answer = await fetch(`${server.base}/api/2.0/events/names?type=general`, { headers });
  return { status: answer.status, text: await answer.text() };
};

/** Opens a page of the project's settings by the gear. */
async function settings(page, tab) {
  await page.getByRole('button', { name: 'Settings', exact: true }).click();
  await page.getByRole('menuitem', { name: 'Project settings', exact: true }).click();
  if (tab) await page.getByRole('tab', { name: tab, exact: true }).click();
}
async function turnTo(page, project) {
  await page.getByRole('button', { name: /^Project: / }).click();
  await page.getByRole('menuitem', { name: new RegExp(`^${project}`) }).click();
  await page.getByRole('button', { name: `Project: ${project}` }).waitFor();
}

test('F1: the token on the page sends, is shown to everybody, and reads nothing', async () => {
  const { server, shop } = await stage();
  for (const email of [OWNER, ADMIN, ANALYST, CONSUMER]) {
    const page = await signedIn(server, email);
    await settings(page);
    await page.getByRole('tab', { name: 'Overview', exact: true, selected: true }).waitFor();
    await page.getByRole('main').getByText(shop.token).waitFor();
    await page.getByText('it lets nobody read anything').waitFor();
    await page.context().close();
  }
  assert.equal(await send(server, shop.token, 'Seen'), '1');
  // The page's own example does it as it stands.
  const page = await signedIn(server, CONSUMER);
  await page.goto(`/app/projects/${shop.project_id}/start?sdk=http`);
  await page.getByRole('button', { name: 'Copy Example for HTTP' }).click();
  const example = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(execFileSync('bash', ['-s'], { input: example, encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] }), '1');
  await page.context().close();
  assert.equal((await names(server, shop.token)).status, 401);
});

test('F2: each project has its own token, which decides where the data goes', async () => {
  const { server, shop, blog } = await stage();
  const page = await signedIn(server, OWNER);
  await turnTo(page, 'Blog');
  await settings(page);
  await page.getByRole('tab', { name: 'Overview', exact: true }).waitFor();
  await page.getByRole('main').getByText(blog.token, { exact: true }).waitFor();
  assert.equal(await page.getByText(shop.token).count(), 0);
  await send(server, blog.token, 'Only in Blog');
  assert.match((await names(server, blog.api_secret)).text, /Only in Blog/);
  assert.doesNotMatch((await names(server, shop.api_secret)).text, /Only in Blog/);
  await page.context().close();
});

test('F3 F4 F5 F11: Management shows token, API key with its rights and, after a proof, the API secret to Owner and Admin', async () => {
  const { server, shop } = await stage();
  for (const email of [OWNER, ADMIN]) {
    const page = await signedIn(server, email);
    await settings(page, 'Management');
    const main = page.getByRole('main');
    await main.getByText(shop.token).waitFor();
    await main.getByText(shop.api_key).waitFor();
    await main.getByText('profiles-read').waitFor();
    await main.getByText(NEVER).waitFor();
    assert.equal(await page.getByText(shop.api_secret).count(), 0);
    assert.ok(!(await page.content()).includes(shop.api_secret));
    await main.getByRole('button', { name: 'Reveal API secret' }).click();
    // The sign-in a moment ago is a proof of its own.
    await main.getByText(shop.api_secret).waitFor();
    await main.getByRole('button', { name: 'Copy API secret' }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), shop.api_secret);
    await main.getByRole('button', { name: 'Hide API secret' }).click();
    assert.ok(!(await page.content()).includes(shop.api_secret));
    await page.context().close();
  }
  for (const email of [ANALYST, CONSUMER]) {
    const page = await signedIn(server, email);
    await settings(page, 'Management');
    await page.getByText(`Shown to owners and admins: ask ${OWNER}.`).first().waitFor();
    assert.equal(await page.getByRole('button', { name: /Reveal/ }).count(), 0);
    assert.ok(!(await page.content()).includes(shop.api_key));
    await page.context().close();
  }
});

test('F3 F4: the examples on the page sign with the key, and without the secret nothing leaves', async () => {
  const { server, shop } = await stage();
  await send(server, shop.token, 'To read back');
  const page = await signedIn(server, OWNER);
  await page.goto(`/app/projects/${shop.project_id}/start`);
  const read = page.getByRole('region', { name: 'Read it back', exact: true });
  const run = (program, args, text, secret) => execFileSync(program, args, { input: text, encoding: 'utf8', env: { ...process.env, API_SECRET: secret }, stdio: ['pipe', 'pipe', 'ignore'] });
  const programs = { curl: ['bash', ['-s']], Python: ['python3', ['-']], JavaScript: ['node', ['--input-type=module', '-']] };
  for (const [name, [program, args]] of Object.entries(programs)) {
    await read.getByRole('tab', { name, exact: true }).click();
    await read.getByRole('button', { name: `Copy Example for ${name}` }).click();
    const text = await page.evaluate(() => navigator.clipboard.readText());
    assert.ok(text.includes(shop.api_key), name);
    assert.match(run(program, args, text, shop.api_secret), /To read back/, name);
    let told = '';
    try {
      told = run(program, args, text, shop.token);
    } catch {
      // Python says a refusal by failing.
    }
    assert.doesNotMatch(told, /To read back/, name);
  }
  await page.context().close();
});

test('F6: Account information, Projects: token, API key and API secret of every project', async () => {
  const { server, shop, blog } = await stage();
  const page = await signedIn(server, OWNER);
  await page.getByRole('button', { name: 'Profile', exact: true }).click();
  await page.getByRole('menuitem', { name: 'Account information', exact: true }).click();
  for (const tab of ['Security', 'General', 'Projects']) await page.getByRole('tab', { name: tab, exact: true }).click();
  for (const project of [shop, blog]) {
    await page.getByText(project.token).waitFor();
    await page.getByText(project.api_key).waitFor();
  }
  assert.equal(await page.getByText(NEVER).count(), 2);
  await page.getByRole('button', { name: 'Reveal API secret of Shop' }).click();
  await page.getByText(shop.api_secret).waitFor();
  // One at a time: another that is shown hides the first.
  await page.getByRole('button', { name: 'Reveal API secret of Blog' }).click();
  await page.getByText(blog.api_secret).waitFor();
  assert.equal(await page.getByText(shop.api_secret).count(), 0);
  await page.context().close();
  const consumer = await signedIn(server, CONSUMER);
  await consumer.goto('/app/account/projects');
  await consumer.getByText(shop.token).waitFor();
  await consumer.getByText(`Shown to owners and admins: ask ${OWNER}.`).first().waitFor();
  assert.ok(!(await consumer.content()).includes(shop.api_key));
  await consumer.context().close();
});

test('F9: others than the owner see why they cannot reset, and whom to ask', async () => {
  const { server, shop } = await stage();
  for (const email of [ADMIN, ANALYST, CONSUMER]) {
    const page = await signedIn(server, email);
    await settings(page, 'Management');
    assert.ok(await page.getByRole('button', { name: 'Reset credentials' }).isDisabled());
    await page.getByText(`Only the Project Owner can reset the API key and API secret: ask ${OWNER}.`).waitFor();
    await page.goto(`/app/projects/${shop.project_id}/reset-credentials`);
    await page.getByText('Only the Project Owner can reset the API key and API secret').waitFor();
    assert.equal((await call(page, 'POST', `/projects/${shop.project_id}/credentials/reset`, { project_name: 'Shop' })).status, 403);
    await page.context().close();
  }
});

test('F7 F8: a reset warns, lists who will break, takes the typed name, and clears key and secret but not the token; a second browser sees it', async () => {
  const { server, shop } = await stage();
  assert.equal((await names(server, shop.api_secret)).status, 200);
  const [page, other] = [await signedIn(server, OWNER), await signedIn(server, OWNER)];
  for (const browser of [page, other]) await settings(browser, 'Management');
  await other.getByRole('button', { name: 'Reveal API secret' }).click();
  await other.getByText(shop.api_secret).waitFor();

  await page.getByRole('button', { name: 'Reset credentials' }).click();
  await page.getByText('Dependent import/export operations will break').waitFor();
  await page.getByText('Check with your team before you go on.').waitFor();
  const callers = page.getByRole('table', { name: 'Callers that will break' });
  await callers.getByText('/api/2.0/events/names').first().waitFor();
  await callers.getByText('127.0.0.1').first().waitFor();
  const name = page.getByLabel("Type the project's name to go on");
  await name.fill('shop');
  await page.getByRole('button', { name: 'Reset credentials' }).click();
  await page.getByRole('alert').getByText('type it to the letter').waitFor();
  assert.equal((await names(server, shop.api_secret)).status, 200, 'nothing was done');
  await name.fill('Shop');
  await page.getByRole('button', { name: 'Reset credentials' }).click();
  await page.getByRole('button', { name: 'I have stored it' }).waitFor();
  const [key, secret] = await page.locator('[data-secret]').allTextContents();
  assert.notEqual(key, shop.api_key);
  await page.getByRole('table', { name: 'Broken now' }).getByText('/api/2.0/events/names').first().waitFor();
  assert.equal((await names(server, shop.api_secret)).status, 401);
  assert.equal((await names(server, secret)).status, 200);
  assert.equal(await send(server, shop.token, 'After the reset'), '1');

  // What the other browser showed is dead, and goes when somebody looks there again.
  await other.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await other.getByText(shop.api_secret).waitFor({ state: 'detached' });
  await other.reload();
  await other.getByText(key).waitFor();
  await other.getByText(shop.token).waitFor();

  await page.getByRole('button', { name: 'I have stored it' }).click();
  assert.ok(!(await page.content()).includes(secret));
  // Who still knocks with the old one.
  await page.getByRole('table', { name: 'Still knocking' }).getByText('/api/2.0/events/names').first().waitFor({ timeout: 20_000 });
  Object.assign(shop, { api_key: key, api_secret: secret });
  for (const browser of [page, other]) await browser.context().close();
});

test('F7: rotating puts a new pair beside the old one, which works on', async () => {
  const { server, blog } = await stage();
  const page = await signedIn(server, OWNER);
  await page.goto(`/app/projects/${blog.project_id}/settings/management`);
  await page.getByRole('button', { name: /^Rotate/ }).click();
  await page.getByLabel('The old pair works on for').selectOption('24h');
  await page.getByRole('button', { name: 'Make the new pair' }).click();
  await page.getByText('I have stored it').waitFor();
  const [, secret] = await page.locator('[data-secret]').allTextContents();
  assert.equal((await names(server, secret)).status, 200);
  assert.equal((await names(server, blog.api_secret)).status, 200);
  await page.getByRole('button', { name: 'I have stored it' }).click();
  await page.getByText('works beside its successor until').waitFor();
  await page.context().close();
});

test('keys with fewer rights, an expiry and networks are made, warned about and ended', async () => {
  const { server, blog } = await stage();
  const page = await signedIn(server, OWNER);
  await page.goto(`/app/projects/${blog.project_id}/settings/access-keys`);
  await page.getByRole('button', { name: 'Create key' }).click();
  const dialog = page.getByRole('dialog', { name: 'Create an API key' });
  await dialog.getByLabel('Name').fill('nightly');
  await dialog.getByLabel('query').check();
  await dialog.getByLabel('Expires on').fill('2099-01-31');
  await dialog.getByLabel('Networks').fill('127.0.0.0/8');
  await dialog.getByRole('button', { name: 'Create key' }).click();
  await dialog.getByText('I have stored it').waitFor();
  const [key, secret] = await dialog.locator('[data-secret]').allTextContents();
  assert.equal((await names(server, secret)).status, 200);
  await dialog.getByRole('button', { name: 'I have stored it' }).click();
  const row = page.getByRole('row').filter({ hasText: key });
  for (const text of ['nightly', 'export', 'query', '127.0.0.0/8', '2099']) await row.getByText(text).first().waitFor();
  await row.getByRole('button', { name: 'Revoke nightly' }).click();
  await page.getByRole('dialog', { name: 'Revoke the key' }).getByRole('button', { name: 'Revoke' }).click();
  await row.waitFor({ state: 'detached' });
  assert.equal((await names(server, secret)).status, 401);
  await page.getByRole('button', { name: 'Create service account' }).click();
  const service = page.getByRole('dialog', { name: 'Create a service account' });
  await service.getByLabel('Name').fill('importer');
  await service.getByRole('button', { name: 'Create', exact: true }).click();
  await service.getByText('It is shown only this once').waitFor();
  await service.getByRole('button', { name: 'I have stored it' }).click();
  await page.getByRole('table', { name: 'Service accounts' }).getByText('importer').first().waitFor();
  await page.context().close();
});

test('what the token may bring is said on the page, and an archived project takes nothing', async () => {
  const { server } = await stage();
  const attic = server.project('Attic', OWNER);
  const page = await signedIn(server, OWNER);
  await page.goto(`/app/projects/${attic.project_id}/settings/data`);
  await page.getByLabel('Events a second', { exact: true }).fill('1000');
  await page.getByLabel('Origins of browsers').fill('https://shop.example');
  await page.getByRole('switch', { name: 'Refuse deletes and merges without a secret' }).check();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();
  await page.reload();
  assert.equal(await page.getByLabel('Events a second', { exact: true }).inputValue(), '1,000');
  assert.equal(await page.getByLabel('Origins of browsers').inputValue(), 'https://shop.example');
  assert.ok(await page.getByLabel('Refuse deletes and merges without a secret').isChecked());
  assert.equal(await send(server, attic.token, 'Before'), '1');
  await page.getByRole('tab', { name: 'Overview' }).click();
  await page.getByRole('button', { name: 'Archive project' }).click();
  const dialog = page.getByRole('dialog', { name: 'Archive project' });
  await dialog.getByLabel("Type the project's name to go on").fill('Attic');
  await dialog.getByRole('button', { name: 'Archive project' }).click();
  await page.getByRole('button', { name: 'Bring it back' }).waitFor();
  assert.equal(await send(server, attic.token, 'After'), '0');
  await page.context().close();
});

test('F10: another token goes through a ticket that an operator answers', async () => {
  const { server, shop } = await stage();
  const owner = await signedIn(server, OWNER);
  await turnTo(owner, 'Shop');
  await owner.getByRole('button', { name: 'Support', exact: true }).click();
  await owner.getByRole('button', { name: 'Reset project token' }).click();
  await owner.getByLabel('Why the token has to be reset').fill('It was abused.\nPlease hurry.');
  await owner.getByRole('button', { name: 'Send the ticket' }).click();
  await owner.getByRole('region', { name: 'Ticket 1' }).getByText('It was abused.').waitFor();

  const admin = await signedIn(server, ADMIN);
  await admin.goto(`/app/projects/${shop.project_id}/support`);
  assert.ok(await admin.getByRole('button', { name: 'Reset project token' }).isDisabled());
  await admin.getByText(`ask ${OWNER}`).waitFor();
  await admin.context().close();

  const operator = await signedIn(server, OPERATOR);
  await operator.getByRole('link', { name: 'Support inbox' }).click();
  const ticket = operator.getByRole('region', { name: 'Ticket 1' });
  await ticket.getByText('Shop').waitFor();
  await ticket.getByLabel('Message').fill('Since when?');
  await ticket.getByRole('button', { name: 'Send' }).click();
  await ticket.getByText('Since when?').waitFor();
  await ticket.getByLabel('Days that the old token takes events on').fill('7');
  await ticket.getByRole('button', { name: 'Give another token' }).click();
  await ticket.getByText('approved').first().waitFor();
  await operator.context().close();

  await owner.reload();
  await owner.getByRole('region', { name: 'Ticket 1' }).getByText('approved').first().waitFor();
  const token = await owner.getByRole('region', { name: 'Project token' }).locator('code').textContent();
  assert.notEqual(token, shop.token);
  assert.equal(await send(server, shop.token, 'By the old token'), '1');
  assert.equal(await send(server, token, 'By the new token'), '1');
  await owner.reload();
  await owner.getByText(/1 came by it/).waitFor({ timeout: 20_000 });
  shop.token = token;
  await owner.context().close();
});

test('F11: no mail and no log of the page holds a secret', async () => {
  const { server, shop, blog } = await stage();
  const box = join(server.dir, 'data/mail');
  const mails = readdirSync(box).map((name) => readFileSync(join(box, name), 'utf8'));
  assert.ok(mails.length > 0);
  for (const secret of [shop.api_secret, blog.api_secret]) {
    assert.ok(mails.every((mail) => !mail.includes(secret)));
    assert.ok(!server.out.includes(secret));
  }
});

test('members, roles, invitations and the hand-over of a project', async () => {
  const { server, blog } = await stage();
  const owner = await signedIn(server, OWNER);
  await owner.goto(`/app/projects/${blog.project_id}/settings/members`);
  const invite = owner.getByRole('region', { name: 'Invitations' });
  await invite.getByLabel('E-mail').fill('new@example.com');
  await invite.getByLabel('Role').selectOption('analyst');
  await invite.getByRole('button', { name: 'Invite' }).click();
  const link = await invite.locator('code').textContent();
  assert.match(link, /\/invitation#/);
  const fresh = await person(server);
  await fresh.goto(link);
  await fresh.getByText('new@example.com is invited to the project Blog as analyst').waitFor();
  assert.ok(!fresh.url().includes('#'), 'the code left the address');
  await fresh.getByLabel('Password').fill('correct horse battery');
  await fresh.getByRole('button', { name: 'Accept' }).click();
  await fresh.getByRole('heading', { name: 'Get started' }).waitFor();
  await owner.reload();
  await owner.getByLabel('Role of new@example.com').selectOption('admin');
  await fresh.goto(`/app/projects/${blog.project_id}/settings/management`);
  await fresh.getByRole('button', { name: /^Reveal/ }).first().waitFor();
  const ownership = owner.getByRole('region', { name: 'Ownership' });
  await ownership.getByLabel('E-mail of the account').fill('new@example.com');
  await ownership.getByRole('button', { name: 'Offer the project' }).click();
  await ownership.getByText('Offered to new@example.com').waitFor();
  await fresh.goto('/app/account/projects');
  await fresh.getByRole('region', { name: 'Offered to you' }).getByText('Blog').waitFor();
  await fresh.getByRole('button', { name: 'Accept' }).click();
  await fresh.getByRole('dialog', { name: 'Accept the project' }).getByRole('button', { name: 'Accept' }).click();
  await fresh.getByRole('region', { name: 'Blog' }).getByText('owner', { exact: true }).waitFor();
  await fresh.context().close();
  // Whoever has an account signs in to accept.
  await invite.getByLabel('E-mail').fill(CONSUMER);
  await invite.getByRole('button', { name: 'Invite' }).click();
  await invite.getByText(`The link was mailed to ${CONSUMER}`).waitFor();
  const known = await person(server);
  await known.goto(await invite.locator('code').textContent());
  await known.getByText('The address has an account: sign in to accept.').waitFor();
  assert.equal(await known.getByLabel('E-mail').inputValue(), CONSUMER);
  await known.getByLabel('Password').fill('correct horse battery');
  await known.getByRole('button', { name: 'Sign in' }).click();
  await known.getByRole('button', { name: 'Project: Blog' }).waitFor();
  await known.context().close();
  await owner.reload();
  assert.equal(await owner.getByRole('region', { name: 'Ownership' }).count(), 0, 'the old owner is an admin now');
  // What happened stands in the log, can be found, and taken along.
  await owner.getByRole('link', { name: 'Audit log', exact: true }).click();
  await owner.getByLabel('Find in the log').fill('transfer');
  await owner.getByRole('table', { name: 'Audit log' }).getByText('transfer').first().waitFor();
  const [download] = await Promise.all([owner.waitForEvent('download'), owner.getByRole('button', { name: 'Export CSV' }).click()]);
  const text = readFileSync(await download.path(), 'utf8');
  assert.match(text, /^id,at,actor,address,action,detail\r\n/);
  assert.match(text, /transfer/);
  await owner.context().close();
});

test('a fresh proof is asked for when the last one is old, and going away from it does nothing', async () => {
  const { server, shop } = await stage();
  const page = await signedIn(server, OWNER);
  // The server's answer when five minutes are over; what comes after it goes through.
  let refusals = 2;
  await page.route('**/reveal', (route) =>
    refusals-- > 0
      ? route.fulfill({ status: 403, contentType: 'application/json', body: JSON.stringify({ code: 'fresh_proof_needed', error: 'prove again who you are' }) })
      : route.continue(),
  );
  await page.goto(`/app/projects/${shop.project_id}/settings/management`);
  const reveal = page.getByRole('button', { name: 'Reveal API secret' }).first();
  await reveal.click();
  await page.getByRole('dialog', { name: 'Prove that it is you' }).getByRole('button', { name: 'Cancel' }).click();
  assert.equal(await page.locator('[data-secret]').count(), 0);
  await reveal.click();
  const dialog = page.getByRole('dialog', { name: 'Prove that it is you' });
  await dialog.getByLabel('Password').fill('wrong');
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await dialog.getByText(/do not fit|wrong|does not/i).waitFor();
  await page.waitForTimeout(1100);
  await prove(page);
  await page.locator('[data-secret]').waitFor();
  await page.context().close();
});
