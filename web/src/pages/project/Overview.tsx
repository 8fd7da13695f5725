// A project's token, name and calendar.
import { NativeSelect, Stack, Text, TextInput } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { api, done } from '../../api/client';
import { ActionForm, Confirmed, field } from '../../pieces/action';
import { Copyable } from '../../pieces/copy';
import { either } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { Name, RoleBadge, Section, TextLink, When } from '../../pieces/text';
import { useProject } from './useProject';

/** The zones that the browser knows, for the field's list. */
export function ZoneList() {
  return (
    <datalist id="zones">
      {['UTC', ...Intl.supportedValuesOf('timeZone')].map((zone) => (
        <option key={zone} value={zone} />
      ))}
    </datalist>
  );
}

export const TOKEN_IS_PUBLIC =
  'A project token is all it takes to send events or people, and it lets nobody read anything. It is public: it stands in web pages.';

export function Overview() {
  const { project, id, isAdmin, isOwner, refresh } = useProject();
  const path = { project: id };
  const save = async (fields: FormData) => {
    const body = { name: field(fields, 'name'), timezone: field(fields, 'timezone').trim(), week_start: field(fields, 'week_start') };
    await done(api.PATCH('/projects/{project}', { params: { path }, body }));
    await refresh();
  };
  return (
    <>
      <Section title="Project token" about={TOKEN_IS_PUBLIC}>
        <Copyable value={project.token} label="project token" />
        <Text size="sm" mt="sm" c="dimmed">
          API key and API secret stand under <TextLink to="/app/projects/$project/settings/$tab" params={{ project: String(id), tab: 'management' }}>Management</TextLink>. Another
          token is given by <TextLink to="/app/projects/$project/support" params={{ project: String(id) }}>Support</TextLink>.
        </Text>
      </Section>
      <Section title="Project">
        {isAdmin ? (
          <ActionForm action={save} submit="Save" doneText="Saved." label="Project">
            <Stack gap="sm" maw="26rem">
              <TextInput name="name" label="Name" defaultValue={project.name} required maxLength={200} />
              <TextInput name="timezone" label="Time zone" description="Days of reports begin and end in it." list="zones" defaultValue={project.timezone} required autoComplete="off" />
              <ZoneList />
              <NativeSelect
                name="week_start"
                label="Week starts on"
                defaultValue={project.week_start}
                data={[
                  { value: 'monday', label: 'Monday' },
                  { value: 'sunday', label: 'Sunday' },
                ]}
              />
            </Stack>
          </ActionForm>
        ) : (
          <dl className="rows">
            <dt>Name</dt>
            <dd>
              <Name>{project.name}</Name>
            </dd>
            <dt>Time zone</dt>
            <dd>{project.timezone}</dd>
            <dt>Week starts on</dt>
            <dd>{project.week_start}</dd>
          </dl>
        )}
      </Section>
      <Section title="About">
        <dl className="rows">
          <dt>Project ID</dt>
          <dd>
            <Copyable value={String(project.project_id)} label="project ID" />
          </dd>
          <dt>Organization ID</dt>
          <dd>
            <code className="value">{project.organization_id}</code> {project.organization_name && <Name>{project.organization_name}</Name>}
          </dd>
          <dt>Your role</dt>
          <dd>
            <RoleBadge role={project.role} />
          </dd>
          <dt>Owners</dt>
          <dd>
            {project.owners.map((owner) => (
              <div key={owner}>
                <Name>{owner}</Name>
              </div>
            ))}
          </dd>
          <dt>Made</dt>
          <dd>
            <When at={project.created_at} />
          </dd>
        </dl>
      </Section>
      <Archive />
      {!isOwner && !isAdmin && <Text size="sm" c="dimmed">Settings are changed by admins and owners: ask {either(project.owners)}.</Text>}
    </>
  );
}

function Archive() {
  const { project, id, isOwner } = useProject();
  const withProof = useProof();
  const client = useQueryClient();
  const path = { project: id };
  const after = () => client.invalidateQueries();
  if (!isOwner) return null;
  if (project.archived_at) {
    const unarchive = async () => {
      await withProof(() => done(api.POST('/projects/{project}/unarchive', { params: { path } })));
      await after();
    };
    return (
      <Section title="Archived" about="The project takes no events; what is there is read as before.">
        <Confirmed label="Bring it back" title="Bring the project back" about="It takes events again, from now on." action={unarchive} />
      </Section>
    );
  }
  const archive = async (fields: FormData) => {
    await withProof(() => done(api.POST('/projects/{project}/archive', { params: { path }, body: { project_name: field(fields, 'project_name') } })));
    await after();
  };
  return (
    <Section title="Archive" about="An archived project takes no events until it is brought back. What is there stays and is read as before.">
      <Confirmed label="Archive project" title="Archive project" about={<>Events for <Name>{project.name}</Name> are refused as of now.</>} action={archive} color="red" variant="outline">
        <TextInput name="project_name" label="Type the project's name to go on" description={<bdi>{project.name}</bdi>} required autoComplete="off" />
      </Confirmed>
    </Section>
  );
}
