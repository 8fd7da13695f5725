// The ways in: the first run, signing in with a second factor, links of mails, the keyboard alone.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import { PASSWORD, person, scenario, Server, signedIn, signIn, test } from './stage.mjs';

const stage = scenario(async () => {
  const server = await Server.start();
  return { server };
});

/** The code that an authenticator app shows (RFC 6238). */
function totp(secret, at = Date.now()) {
  const bits = [...secret.replace(/=+$/, '')].map((letter) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const hash = createHmac('sha1', key).update(counter).digest();
  const from = hash[19] & 15;
  return String((hash.readUInt32BE(from) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

test('a first run makes the first account with the code of the console, and nothing without it', async () => {
  const { server } = await stage();
  const page = await person(server);
  await page.goto('/');
  await page.getByRole('heading', { name: 'First run' }).waitFor();
  await page.getByLabel('Setup code').fill('WRONG');
  await page.getByLabel('E-mail').fill('first@example.com');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Make the first account' }).click();
  await page.getByRole('alert').getByText('Unknown setup code').waitFor();
  await page.getByLabel('Setup code').fill(server.setupCode);
  await page.getByRole('button', { name: 'Make the first account' }).click();
  // Nothing is there yet: the page says what to do.
  await page.getByRole('heading', { name: 'No project yet' }).waitFor();
  await page.getByRole('main').getByRole('button', { name: 'Create project' }).click();
  await page.getByLabel('Name').fill('First');
  await page.getByLabel('Time zone').fill('Europe/Berlin');
  await page.getByRole('main').getByRole('button', { name: 'Create project' }).click();
  await page.getByText('Its credentials').waitFor();
  const [token, , secret] = await page.locator('[data-secret]').allTextContents();
  await page.getByRole('button', { name: 'I have stored it' }).click();

  // Get started: the panel shows the first event as it arrives.
  const arriving = page.getByRole('region', { name: 'Arriving' });
  await arriving.getByText('Waiting for the first event').waitFor();
  const body = JSON.stringify([{ event: 'Signed Up', properties: { token, distinct_id: 'u' } }]);
  await fetch(`${server.base}/track`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
  await arriving.getByText('The first event arrived: Signed Up').waitFor();
  assert.ok(!(await page.content()).includes(secret));
  // Name, time zone and week are changed; the address survives a reload.
  await page.goto('/app/projects/1/settings/overview');
  await page.getByLabel('Name').fill('Renamed');
  await page.getByLabel('Week starts on').selectOption('sunday');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved.').waitFor();
  await page.reload();
  await page.getByRole('button', { name: 'Project: Renamed' }).waitFor();
  assert.equal(await page.getByLabel('Week starts on').inputValue(), 'sunday');
  assert.equal(await page.getByLabel('Time zone').inputValue(), 'Europe/Berlin');
  await page.goto('/setup');
  await page.getByText('This server has its first account').waitFor();
  await page.context().close();
});

test('the browser example sends with an SDK that this server itself has', async () => {
  const { server } = await stage();
  const page = await signedIn(server, 'first@example.com');
  await page.goto('/app/projects/1/start?sdk=browser');
  await page.getByRole('button', { name: 'Copy Example for Browser' }).click();
  const example = await page.evaluate(() => navigator.clipboard.readText());
  // A page of another site, which knows nothing but the example.
  const shop = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end(`<!doctype html><head>${example}</head><p>A shop</p>`));
  await new Promise((done) => shop.listen(0, 'localhost', done));
  const address = `http://localhost:${shop.address().port}/`;
  const site = await person(server);
  const away = [];
  site.on('request', (request) => request.url().startsWith(server.base) || request.url().startsWith(address) || away.push(request.url()));
  const tracked = site.waitForResponse((response) => response.url().startsWith(`${server.base}/track`));
  await site.goto(address);
  assert.equal((await tracked).status(), 200);
  assert.deepEqual(away, [], 'nothing is loaded from anywhere else');
  await page.getByRole('region', { name: 'Arriving' }).getByRole('row', { name: /Signed Up 2/ }).waitFor();
  for (const each of [site, page]) await each.context().close();
  shop.close();
});

test('a second factor is set up by a code, asked for at the door, and recovery codes stand in for it', async () => {
  const { server } = await stage();
  server.account('careful@example.com');
  const page = await signedIn(server, 'careful@example.com');
  await page.goto('/app/account/security');
  await page.getByRole('button', { name: 'Set up an authenticator app' }).click();
  const dialog = page.getByRole('dialog', { name: 'Set up an authenticator app' });
  await dialog.getByRole('img', { name: 'QR code for the authenticator app' }).waitFor();
  const secret = await dialog.locator('code').textContent();
  await dialog.getByLabel('Code').fill(totp(secret));
  await dialog.getByRole('button', { name: 'Turn it on' }).click();
  const codes = (await page.getByRole('dialog', { name: 'Recovery codes' }).locator('code').textContent()).trim().split(/\s+/);
  await page.getByRole('button', { name: 'I have stored them' }).click();
  await page.getByText('It is on.').waitFor();
  assert.ok(!(await page.content()).includes(secret) && !(await page.content()).includes(codes[0]));

  const again = await person(server);
  await again.goto('/sign-in');
  await again.getByLabel('E-mail').fill('careful@example.com');
  await again.getByLabel('Password').fill(PASSWORD);
  await again.getByRole('button', { name: 'Sign in' }).click();
  await again.getByLabel('Code of the authenticator app').fill(codes[0]);
  await again.getByRole('button', { name: 'Sign in' }).click();
  await again.getByRole('button', { name: 'Settings' }).waitFor();
  // Sessions are seen, and killed: the other browser is sent to the door and back to where it was.
  await again.goto('/app/account/security');
  await again.getByRole('button', { name: 'End the session from 127.0.0.1' }).click();
  await again.getByRole('dialog', { name: 'End the session' }).getByRole('button', { name: 'End' }).click();
  await again.getByRole('button', { name: 'End the session from 127.0.0.1' }).waitFor({ state: 'detached' });
  // Whoever looks at the page again, a while later, finds the door.
  await page.waitForTimeout(5_000);
  await page.evaluate(() => window.dispatchEvent(new Event('visibilitychange')));
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  assert.equal(new URL(page.url()).searchParams.get('next'), '/app/account/security');
  for (const each of [page, again]) await each.context().close();
});

test('a wrong password is told as a sentence, and the address that was asked for is come back to', async () => {
  const { server } = await stage();
  const page = await person(server);
  await page.goto('/app/projects/1/settings/access-keys');
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await page.getByLabel('E-mail').fill('first@example.com');
  await page.getByLabel('Password').fill('wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').getByText('E-mail address, password or code do not fit.').waitFor();
  await page.waitForTimeout(1100);
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('tab', { name: 'Access keys', selected: true }).waitFor();
  assert.equal(new URL(page.url()).pathname, '/app/projects/1/settings/access-keys');
  // An address of elsewhere is not gone to.
  await page.goto('/sign-in?next=//evil.example');
  await page.getByLabel('E-mail').fill('first@example.com');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('button', { name: 'Settings' }).waitFor();
  assert.equal(new URL(page.url()).origin, server.base);
  await page.context().close();
});

test('a forgotten password is set by the link of a mail, and another address is confirmed by one', async () => {
  const { server } = await stage();
  server.account('forgetful@example.com');
  const page = await person(server);
  await page.goto('/sign-in');
  await page.getByRole('link', { name: 'Forgot your password?' }).click();
  await page.getByLabel('E-mail').fill('forgetful@example.com');
  await page.getByRole('button', { name: 'Send the link' }).click();
  await page.getByText('the link is on its way').waitFor();
  await page.goto(await server.link('To: forgetful@example.com', 'Set another password'));
  await page.getByLabel('New password').fill('another fine horse');
  assert.ok(!page.url().includes('#'));
  await page.getByRole('button', { name: 'Set password' }).click();
  await page.getByText('The password is set').waitFor();
  await signIn(page, 'forgetful@example.com', 'another fine horse');
  await page.goto('/app/account/general');
  await page.getByLabel('Password until now').fill('another fine horse');
  await page.getByLabel('New password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.getByText('The password is changed.').waitFor();
  await page.getByLabel('New e-mail').fill('moved@example.com');
  await page.getByRole('button', { name: 'Send the link' }).click();
  await page.getByText('The link is on its way.').waitFor();
  await page.goto(await server.link('To: moved@example.com', 'Confirm your e-mail address'));
  await page.getByRole('button', { name: 'Confirm' }).click();
  await page.getByRole('region', { name: 'Account' }).getByText('moved@example.com').waitFor();
  await page.context().close();
});

test('the keyboard alone signs in and reveals the API secret', async () => {
  const { server } = await stage();
  server.account('keyboard@example.com');
  server.project('Keyboard', 'keyboard@example.com');
  const page = await person(server);
  await page.goto('/sign-in');
  await page.getByLabel('E-mail').waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent ?? '');
  /** Goes on with the Tab key until something has the focus. */
  const tabTo = async (name) => {
    for (let tries = 0; tries < 60; tries++) {
      await page.keyboard.press('Tab');
      if ((await focused()).trim() === name) return;
    }
    throw new Error(`the Tab key does not reach ${name}`);
  };
  await page.keyboard.press('Tab');
  await page.keyboard.type('keyboard@example.com');
  await page.keyboard.press('Tab');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Settings' }).waitFor();
  await tabTo('Settings');
  await page.keyboard.press('Enter');
  await page.getByRole('menuitem', { name: 'Project settings' }).waitFor();
  // Opening by the keyboard goes to the first item; the arrows go round.
  await page.waitForFunction(() => document.activeElement?.getAttribute('role') === 'menuitem');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowUp');
  assert.equal((await focused()).trim(), 'Project settings');
  await page.keyboard.press('Enter');
  await page.getByRole('tab', { name: 'Overview' }).waitFor();
  await tabTo('Overview');
  await page.keyboard.press('ArrowRight');
  await page.getByRole('tab', { name: 'Management', selected: true }).waitFor();
  await tabTo('Reveal API secret');
  await page.keyboard.press('Enter');
  await page.locator('[data-secret]').waitFor();
  await page.context().close();
});
