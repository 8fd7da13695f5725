// Imports and exports: how far each is, its end, and an import from Mixpanel. They run in the server: every tab shows the same.
import { Badge, Button, Checkbox, Group, Modal, NativeSelect, PasswordInput, Progress, Stack, Table, Text, TextInput } from '@mantine/core';
import { queryOptions, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, done } from '../../api/client';
import { membersQuery } from '../../api/queries';
import { ActionForm, Confirmed, field } from '../../pieces/action';
import { either, figure, who } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { Empty, Loaded } from '../../pieces/states';
import { Name, PageTitle, Section, When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';
import { isAtLeast, useProject } from '../project/useProject';
import { partOf, told, type Job } from './progress';

const jobsQuery = (project: number) =>
  queryOptions({
    queryKey: ['project', project, 'jobs'],
    queryFn: () => done(api.GET('/projects/{project}/jobs', { params: { path: { project } } })),
    // What another tab or the command line started shows up too.
    refetchInterval: (query) => (query.state.data?.some((job) => job.state === 'running') ? 1000 : 5000),
  });

export function Jobs() {
  const { project, id, isAdmin } = useProject();
  const mayLook = isAtLeast(project.role, 'analyst');
  return (
    <>
      <PageTitle of={project.name} actions={isAdmin && <ImportButton />}>
        Imports and exports
      </PageTitle>
      {mayLook ? <List key={id} /> : <Text size="sm">Imports and exports are for analysts, admins and owners: ask {either(project.owners)}.</Text>}
    </>
  );
}

function List() {
  const { id } = useProject();
  const jobs = useQuery(jobsQuery(id));
  return (
    <Section title="Jobs" about="Files are imported and exported by the command line: sluice import, sluice export.">
      <Loaded query={jobs}>
        {(list) =>
          list.length === 0 ? (
            <Empty>Nothing was imported or exported yet. Import from Mixpanel, or run sluice import --help on the server.</Empty>
          ) : (
            <Stack gap={0} component="ol" className="feed">
              {list.map((job) => (
                <li key={job.job}>
                  <One job={job} />
                </li>
              ))}
            </Stack>
          )
        }
      </Loaded>
    </Section>
  );
}

const COLOURS: Record<string, string> = { running: 'cyan', done: 'teal', failed: 'red' };

function One({ job }: { job: Job }) {
  const { id, isAdmin, refresh } = useProject();
  const members = useQuery(membersQuery(id));
  const cancel = async () => {
    await done(api.POST('/projects/{project}/jobs/{job}/cancel', { params: { path: { project: id, job: job.job } } }));
    await refresh();
  };
  const part = job.progress ? partOf(job.progress) : undefined;
  return (
    <Stack gap={6} py="sm">
      <Group justify="space-between" gap="xs" align="flex-start">
        <Group gap="xs">
          <Text size="sm" fw={600} span>
            {job.kind} {job.job}
          </Text>
          <Badge variant="outline" size="sm" radius="sm" tt="none" fw={500} color={COLOURS[job.state] ?? 'gray'} c="var(--mantine-color-text)">
            {job.state}
          </Badge>
          <Name>{job.what}</Name>
        </Group>
        {isAdmin && job.state === 'running' && (
          <Confirmed
            label="Cancel"
            ariaLabel={`Cancel ${job.kind} ${job.job}`}
            confirm={`Cancel the ${job.kind}`}
            title={`Cancel the ${job.kind}`}
            about={job.kind === 'import' ? 'What it stored stays. The same import again goes on where it ended.' : 'The file that it writes is not whole.'}
            action={cancel}
          />
        )}
      </Group>
      {job.progress && (
        <>
          {part !== undefined && <Progress value={part} size="sm" radius="sm" aria-label={`${job.kind} ${job.job}`} />}
          <Text size="sm" className="figures" role="status">
            <Name>{told(job.progress)}</Name>
          </Text>
        </>
      )}
      {job.error && (
        <Text size="sm" c="var(--mantine-color-error)">
          <Name>{job.error}</Name>
        </Text>
      )}
      <Text size="xs" c="dimmed">
        <Name>{who(job.actor, members.data ?? [])}</Name>, <When at={job.started_at} />
        {job.ended_at && (
          <>
            {' '}
            to <When at={job.ended_at} />
          </>
        )}
      </Text>
      {job.outcome && <Came outcome={job.outcome} job={job.job} />}
    </Stack>
  );
}

/** What came, and what is stored, by day. */
function Came({ outcome, job }: { outcome: NonNullable<Job['outcome']>; job: number }) {
  const differing = outcome.days.filter((line) => line.difference !== null && line.difference !== 0).length;
  const label = `Days of import ${job}`;
  return (
    <details>
      <summary>
        {figure(outcome.days.length)} {outcome.days.length === 1 ? 'day' : 'days'}, {differing === 0 ? 'each as the source has it' : `${figure(differing)} with a difference`}
        {outcome.rejects && ', some records were refused'}
      </summary>
      <Wide minWidth={560} label={label}>
        <Table aria-label={label}>
          <Table.Thead>
            <Table.Tr>
              {['Day', 'Source', 'Imported', 'Refused', 'Duplicates', 'Stored', 'Difference'].map((name, index) => (
                <Table.Th key={name} ta={index === 0 ? undefined : 'right'}>
                  {name}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {outcome.days.map((line) => (
              <Table.Tr key={line.day} className="figures">
                <Table.Td className="whole">{line.day}</Table.Td>
                <Table.Td ta="right">{figure(line.source)}</Table.Td>
                <Table.Td ta="right">{figure(line.imported)}</Table.Td>
                <Table.Td ta="right">
                  {Object.entries(line.refused ?? {}).length === 0
                    ? 0
                    : Object.entries(line.refused ?? {}).map(([reason, count]) => (
                        <div key={reason}>
                          {figure(count)} <Name>{reason}</Name>
                        </div>
                      ))}
                </Table.Td>
                <Table.Td ta="right">{figure(line.duplicates)}</Table.Td>
                <Table.Td ta="right">{line.stored === null ? '' : figure(line.stored)}</Table.Td>
                <Table.Td ta="right">{line.difference === null ? '' : figure(line.difference)}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Wide>
      {outcome.rejects && (
        <Text size="xs" c="dimmed" mt={6}>
          Refused records, each with its reason: <code className="value">{outcome.rejects}</code>
        </Text>
      )}
    </details>
  );
}

function ImportButton() {
  const { id } = useProject();
  const [isOpen, setOpen] = useState(false);
  const withProof = useProof();
  const client = useQueryClient();
  const start = async (fields: FormData) => {
    const optional = (name: string) => field(fields, name).trim() || null;
    const source = optional('source_project_id');
    const body = {
      region: field(fields, 'region') as 'us' | 'eu' | 'in',
      secret: field(fields, 'secret'),
      service_account: optional('service_account'),
      source_project_id: source === null ? null : Number(source),
      from_date: optional('from_date'),
      to_date: optional('to_date'),
      profiles: fields.get('profiles') === 'on',
      source_timezone: optional('source_timezone'),
    };
    await withProof(() => done(api.POST('/projects/{project}/imports', { params: { path: { project: id } }, body })));
    setOpen(false);
    await client.invalidateQueries({ queryKey: ['project', id, 'jobs'] });
  };
  return (
    <>
      <Button onClick={() => setOpen(true)}>Import from Mixpanel</Button>
      <Modal opened={isOpen} onClose={() => setOpen(false)} title="Import from Mixpanel" size="lg">
        <ActionForm
          action={start}
          submit="Start the import"
          label="Import from Mixpanel"
          aside={
            <Button variant="default" onClick={() => setOpen(false)}>
              Cancel
            </Button>
          }
        >
          <Text size="sm" c="dimmed">
            It runs in the server and goes on after interruptions; each event counts once. The secret is kept sealed until the import ends.
          </Text>
          <Group grow align="flex-start">
            <NativeSelect
              name="region"
              label="Data lives in"
              data={[
                { value: 'us', label: 'United States' },
                { value: 'eu', label: 'Europe' },
                { value: 'in', label: 'India' },
              ]}
              data-autofocus
            />
            <TextInput name="source_project_id" label="Project ID there" description="Needed with a service account." inputMode="numeric" pattern="[0-9]*" autoComplete="off" />
          </Group>
          <TextInput name="service_account" label="Service account" description="Its user name; empty: the secret is the project's API secret." autoComplete="off" />
          <PasswordInput name="secret" label="Secret" required autoComplete="off" />
          <Group grow align="flex-start">
            <TextInput type="date" name="from_date" label="From" description="Without days no events are imported." />
            <TextInput type="date" name="to_date" label="To" description="The last day goes along." />
          </Group>
          <TextInput name="source_timezone" label="Time zone there" description="Only of projects from before 2023, whose times are wall times; such as Europe/Berlin." autoComplete="off" />
          <Checkbox name="profiles" label="Profiles of users too" defaultChecked />
        </ActionForm>
      </Modal>
    </>
  );
}
