// Token, API key with its rights, and API secret of a project, as they stand in project settings and in account information (F3–F6).
import { Badge, Group, Stack, Text } from '@mantine/core';
import { api, done, type Schemas } from '../../api/client';
import { Copyable } from '../../pieces/copy';
import { either } from '../../pieces/format';
import { NEVER_SHARE, SecretValue } from '../../pieces/secret';
import { Name, When } from '../../pieces/text';
import { isAtLeast } from './useProject';

type Key = Schemas['Key'];
type Project = Schemas['OwnProject'];

export function Rights({ rights }: { rights: string[] }) {
  return (
    <Group gap={4}>
      {rights.map((right) => (
        <Badge key={right} variant="default" size="sm" radius="sm" tt="none" fw={450}>
          {right}
        </Badge>
      ))}
    </Group>
  );
}

/** The secret of a key: masked, or why it cannot be shown. */
export function KeySecret({ project, apiKey, name }: { project: Project; apiKey: Key; name: string }) {
  const path = { project: project.project_id, key: apiKey.api_key ?? '' };
  if (!isAtLeast(project.role, 'admin')) return <Text size="sm">Shown to owners and admins: ask {either(project.owners)}.</Text>;
  if (!apiKey.can_be_revealed) return <Text size="sm">Stored as a hash; rotate to get a new one.</Text>;
  const reveal = async () => (await done(api.POST('/projects/{project}/keys/{key}/reveal', { params: { path } }))).api_secret;
  return (
    <Stack gap={4}>
      <SecretValue label={name} reveal={reveal} />
      <Text size="xs" c="dimmed">
        {NEVER_SHARE}
      </Text>
    </Stack>
  );
}

/** The rows of one key. `of` sets it apart where several projects stand on a page. */
export function KeyRows({ project, apiKey, of }: { project: Project; apiKey: Key; of?: string }) {
  const tail = of ? ` of ${of}` : '';
  return (
    <>
      <dt>API key</dt>
      <dd>
        {apiKey.api_key === null ? (
          <Text size="sm">Shown to owners and admins: ask {either(project.owners)}.</Text>
        ) : (
          <Copyable value={apiKey.api_key} label={`API key${tail}`} />
        )}
        <Text size="xs" c="dimmed" mt={2}>
          <Name>{apiKey.name}</Name>
          {apiKey.retires_at && (
            <>
              , works beside its successor until <When at={apiKey.retires_at} />
            </>
          )}
          {apiKey.expires_at && (
            <>
              , expires <When at={apiKey.expires_at} />
            </>
          )}
          {apiKey.weak && ', weak: it was imported and can be guessed'}
        </Text>
      </dd>
      <dt>Access rights</dt>
      <dd>
        <Rights rights={apiKey.rights} />
      </dd>
      <dt>API secret</dt>
      <dd>
        <KeySecret project={project} apiKey={apiKey} name={`API secret${tail}`} />
      </dd>
    </>
  );
}

/** Whether a project has no live key at all, and what to do then. */
export function NoKeys() {
  return <Text size="sm">There is no live API key. An owner or admin makes one under Access keys; a reset makes a new pair.</Text>;
}
