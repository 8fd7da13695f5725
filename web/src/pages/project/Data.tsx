// Data: what the public token may bring, what secrets may travel over, and what can be brought back.
import { NumberInput, SimpleGrid, Stack, Switch, Text, Textarea, TextInput } from '@mantine/core';
import { api, done } from '../../api/client';
import { ActionForm, Confirmed, field } from '../../pieces/action';
import { either } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { SecretValue } from '../../pieces/secret';
import { Section } from '../../pieces/text';
import { useState } from 'react';
import { useProject } from './useProject';

const lines = (text: string) => text.split(/[\s,]+/).filter(Boolean);
const number = (text: string) => {
  const digits = text.replace(/[^0-9]/g, '');
  return digits === '' ? null : Number(digits);
};

/** The token's limits, in the order in which they are met. */
const LIMITS = [
  ['events_per_second_max', 'Events a second'],
  ['address_events_per_second_max', 'Events a second from one address'],
  ['bytes_per_second_max', 'Bytes a second'],
  ['bytes_per_day_max', 'Bytes a day'],
] as const;

export function Data() {
  const { project, isAdmin } = useProject();
  if (!isAdmin) return <Text size="sm">What the token may bring is set by admins and owners: ask {either(project.owners)}.</Text>;
  return (
    <>
      <TokenOptions />
      <Transport />
      <IdentitySecret />
      <RestoreProfiles />
    </>
  );
}

function TokenOptions() {
  const { project, id, refresh } = useProject();
  const withProof = useProof();
  const options = project.token_options;
  const save = async (fields: FormData) => {
    const isOn = (name: string) => fields.get(name) === 'on';
    const body = {
      events_per_second_max: number(field(fields, 'events_per_second_max')),
      address_events_per_second_max: number(field(fields, 'address_events_per_second_max')),
      bytes_per_second_max: number(field(fields, 'bytes_per_second_max')),
      bytes_per_day_max: number(field(fields, 'bytes_per_day_max')),
      origins: lines(field(fields, 'origins')),
      enforce_origins: isOn('enforce_origins'),
      deletes_need_secret: isOn('deletes_need_secret'),
      backfill_needs_secret: isOn('backfill_needs_secret'),
      authenticated_properties: field(fields, 'authenticated_properties').split('\n').map((line) => line.trim()).filter(Boolean),
      identity_needs_signature: isOn('identity_needs_signature'),
      flag_bots: isOn('flag_bots'),
    };
    await withProof(() => done(api.PUT('/projects/{project}/token-options', { params: { path: { project: id } }, body })));
    await refresh();
  };
  return (
    <Section title="What the token may bring" about="The token is public, so anyone can send with it. What is left open here is not limited.">
      <ActionForm action={save} submit="Save" doneText="Saved." label="What the token may bring">
        <SimpleGrid cols={{ base: 1, xs: 2 }} maw="36rem" verticalSpacing="sm">
          {LIMITS.map(([name, label]) => (
            <NumberInput key={name} name={name} label={label} description="At most; empty: no limit." min={1} hideControls thousandSeparator="," defaultValue={options[name] ?? ''} />
          ))}
        </SimpleGrid>
        <Textarea
          name="origins"
          label="Origins of browsers"
          description="One a line, such as https://shop.example or https://*.shop.example; empty: all."
          autosize
          minRows={2}
          defaultValue={options.origins?.join('\n')}
          maw="36rem"
        />
        <Switch name="enforce_origins" label="Refuse other origins rather than flag their events" defaultChecked={options.enforce_origins} />
        <Switch name="deletes_need_secret" label="Refuse deletes and merges without a secret" defaultChecked={options.deletes_need_secret} />
        <Switch name="backfill_needs_secret" label="Refuse /import by the token or API key alone" defaultChecked={options.backfill_needs_secret} />
        <Switch name="identity_needs_signature" label="Take known users only with an identity signature" defaultChecked={options.identity_needs_signature} />
        <Switch name="flag_bots" label="Keep events of bots, flagged, instead of dropping them" defaultChecked={options.flag_bots} />
        <Textarea
          name="authenticated_properties"
          label="Properties of authenticated imports only"
          description="One a line; the token alone cannot set them."
          autosize
          minRows={2}
          defaultValue={options.authenticated_properties?.join('\n')}
          maw="36rem"
        />
      </ActionForm>
    </Section>
  );
}

function Transport() {
  const { project, id, refresh } = useProject();
  const withProof = useProof();
  const set = async (require_tls: boolean) => {
    await withProof(() => done(api.PUT('/projects/{project}/require-tls', { params: { path: { project: id } }, body: { require_tls } })));
    await refresh();
  };
  return (
    <Section title="Transport" about={project.require_tls ? 'Secrets over plain HTTP are refused; so is this page.' : 'Secrets are taken over plain HTTP too. Where the network is not yours alone, require TLS.'}>
      {project.require_tls ? (
        <Confirmed label="Take plain HTTP again" title="Take plain HTTP again" about="Secrets and passwords can be read on the way then." action={() => set(false)} />
      ) : (
        <Confirmed label="Require TLS" title="Require TLS" about="Scripts that send secrets over plain HTTP are refused, and the project is managed over TLS only." action={() => set(true)} />
      )}
    </Section>
  );
}

function IdentitySecret() {
  const { id } = useProject();
  const withProof = useProof();
  const [turn, setTurn] = useState(0);
  const path = { project: id };
  const reveal = async () => (await done(api.POST('/projects/{project}/identity-secret/reveal', { params: { path } }))).identity_secret;
  const rotate = async () => {
    await withProof(() => done(api.POST('/projects/{project}/identity-secret/rotate', { params: { path } })));
    setTurn(turn + 1);
  };
  return (
    <Section title="Identity secret" about="Your own server signs with it which user a client may speak for. It belongs in no page and no app; never share it or send it over email.">
      <Stack gap="sm" align="flex-start">
        <SecretValue key={turn} label="identity secret" reveal={reveal} />
        <Confirmed label="Rotate the identity secret" title="Rotate the identity secret" about="The old one ends at once: records that are signed with it are refused." action={rotate} />
      </Stack>
    </Section>
  );
}

function RestoreProfiles() {
  const { id } = useProject();
  const withProof = useProof();
  const [restored, setRestored] = useState<number>();
  const restore = async (fields: FormData) => {
    const since = field(fields, 'since');
    const body = { ...(since && { since }), distinct_ids: field(fields, 'distinct_ids').split('\n').map((line) => line.trim()).filter(Boolean) };
    setRestored((await withProof(() => done(api.POST('/projects/{project}/profiles/restore', { params: { path: { project: id } }, body })))).profiles);
  };
  return (
    <Section title="Bring profiles back" about="What was deleted or unset with nothing but the token is kept for 30 days. What was set again since stays as it is.">
      <ActionForm
        action={restore}
        submit="Bring back"
        label="Bring profiles back"
        aside={restored !== undefined && <Text size="sm" role="status">{restored} profiles got something back.</Text>}
      >
        <TextInput name="since" type="date" label="Since" description="Empty: all that is kept." maw="14rem" />
        <Textarea name="distinct_ids" label="Only these users" description="One distinct_id a line; empty: all." autosize minRows={2} maw="36rem" />
      </ActionForm>
    </Section>
  );
}

