// Account information: who signs in, the projects with their credentials, and what keeps the account safe.
import { Stack, Tabs } from '@mantine/core';
import { useNavigate, useParams } from '@tanstack/react-router';
import type { ComponentType } from 'react';
import { PageTitle } from '../../pieces/text';
import { ACCOUNT_TABS, type AccountTab } from '../../routes';
import { General } from './General';
import { Projects } from './Projects';
import { Security } from './Security';

const NAMES: Record<AccountTab, [string, ComponentType]> = {
  general: ['General', General],
  projects: ['Projects', Projects],
  security: ['Security', Security],
};

export function AccountInformation() {
  const tab = useParams({ strict: false }).tab as AccountTab;
  const navigate = useNavigate();
  const Shown = NAMES[tab][1];
  return (
    <>
      <PageTitle of={NAMES[tab][0]}>Account information</PageTitle>
      <Tabs value={tab} onChange={(value) => value && navigate({ to: '/app/account/$tab', params: { tab: value } })} keepMounted={false}>
        <Tabs.List>
          {ACCOUNT_TABS.map((name) => (
            <Tabs.Tab key={name} value={name}>
              {NAMES[name][0]}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value={tab} pt="md">
          <Stack gap="md">
            <Shown />
          </Stack>
        </Tabs.Panel>
      </Tabs>
    </>
  );
}
