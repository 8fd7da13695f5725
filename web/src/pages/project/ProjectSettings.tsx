// Project settings: five tabs, each with an address of its own.
import { Alert, Button, Stack, Tabs, Text } from '@mantine/core';
import { useNavigate, useParams } from '@tanstack/react-router';
import type { ComponentType } from 'react';
import { api, done } from '../../api/client';
import { Problem, useAction } from '../../pieces/action';
import { either } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { PageTitle } from '../../pieces/text';
import { PROJECT_TABS, type ProjectTab } from '../../routes';
import { AccessKeys } from './AccessKeys';
import { Data } from './Data';
import { Management } from './Management';
import { Members } from './Members';
import { Overview } from './Overview';
import { useProject } from './useProject';

const NAMES: Record<ProjectTab, [string, ComponentType]> = {
  overview: ['Overview', Overview],
  management: ['Management', Management],
  'access-keys': ['Access keys', AccessKeys],
  members: ['Members', Members],
  data: ['Data', Data],
};

export function ProjectSettings() {
  const { project } = useProject();
  const tab = useParams({ strict: false }).tab as ProjectTab;
  const navigate = useNavigate();
  const Shown = NAMES[tab][1];
  const turn = (value: string | null) =>
    value && navigate({ to: '/app/projects/$project/settings/$tab', params: { project: String(project.project_id), tab: value } });
  return (
    <>
      <PageTitle of={`${NAMES[tab][0]} · ${project.name}`}>Project settings</PageTitle>
      <Suspended />
      <Tabs value={tab} onChange={turn} keepMounted={false} mb="md">
        <Tabs.List>
          {PROJECT_TABS.map((name) => (
            <Tabs.Tab key={name} value={name}>
              {NAMES[name][0]}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value={tab} pt="md">
          <Stack gap="md" key={`${project.project_id} ${tab}`}>
            <Shown />
          </Stack>
        </Tabs.Panel>
      </Tabs>
    </>
  );
}

/** A backup was restored: an owner says that its credentials may work again. */
function Suspended() {
  const { project, id, isOwner, refresh } = useProject();
  const withProof = useProof();
  const { run, busy, problem } = useAction();
  if (!project.suspended_at) return null;
  const confirm = () =>
    run(async () => {
      await withProof(() => done(api.POST('/projects/{project}/credentials/confirm', { params: { path: { project: id } } })));
      await refresh();
    });
  return (
    <Alert color="orange" variant="light" mb="md" title="A backup was restored">
      <Stack gap="xs" align="flex-start">
        <Text size="sm">
          The credentials of this project wait until an owner confirms them: one that was revoked after the backup may be among them. The token takes events
          meanwhile. {!isOwner && `Ask ${either(project.owners)}.`}
        </Text>
        {problem && <Problem>{problem}</Problem>}
        {isOwner && (
          <Button onClick={confirm} loading={busy}>
            Confirm the credentials
          </Button>
        )}
      </Stack>
    </Alert>
  );
}
