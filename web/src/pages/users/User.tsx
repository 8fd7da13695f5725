// One user: the profile as it was set, and what the user did.
import { Group, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useSearch } from '@tanstack/react-router';
import { profiles, type Profile } from '../../api/reports';
import { CopyButton } from '../../pieces/copy';
import { either } from '../../pieces/format';
import { Empty, Loaded } from '../../pieces/states';
import { PageTitle, Section, TextLink } from '../../pieces/text';
import { PropertyTable } from '../../pieces/value';
import { isAtLeast, useProject } from '../project/useProject';
import { Activity } from './Activity';

/** What a user is called, where the profile says it. */
function calledOf(profile: Profile | undefined, id: string): string {
  const { $name, $email } = profile?.$properties ?? {};
  return [$name, $email].find((text): text is string => typeof text === 'string' && text.trim() !== '') ?? id;
}

export function User() {
  const { project, id } = useProject();
  const { id: user = '' } = useSearch({ strict: false });
  return (
    <>
      <PageTitle
        of={project.name}
        actions={
          <TextLink to="/app/projects/$project/users" params={{ project: String(id) }} size="sm">
            All users
          </TextLink>
        }
      >
        User
      </PageTitle>
      {!isAtLeast(project.role, 'analyst') ? (
        <Text size="sm">Users are for analysts, admins and owners: ask {either(project.owners)}.</Text>
      ) : (
        <div className="split even" key={user}>
          <Properties user={user} />
          <Activity project={id} user={user} />
        </div>
      )}
    </>
  );
}

function Properties({ user }: { user: string }) {
  const { id } = useProject();
  const found = useQuery({
    queryKey: ['project', id, 'user', user],
    queryFn: async ({ signal }) => (await profiles(id, { distinct_ids: JSON.stringify([user]), page_size: 1 }, signal)).results[0] ?? null,
  });
  return (
    <Section title={calledOf(found.data ?? undefined, user)}>
      <Group gap={6} wrap="nowrap" mb="sm" align="flex-start">
        <Text size="sm" c="dimmed" span>
          distinct_id
        </Text>
        <bdi className="value">{user}</bdi>
        <CopyButton text={user} label="Copy distinct_id" />
      </Group>
      <Loaded query={found}>
        {(profile) =>
          profile === null ? <Empty>No profile of this distinct_id. Its events stand beside it all the same.</Empty> : <PropertyTable properties={profile.$properties} label="Properties" />
        }
      </Loaded>
    </Section>
  );
}
