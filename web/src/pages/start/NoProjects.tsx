// Signed in, and a member of nothing.
import { Button, Group, Stack, Text } from '@mantine/core';
import { useNavigate } from '@tanstack/react-router';
import { PageTitle, TextLink } from '../../pieces/text';

export function NoProjects() {
  const navigate = useNavigate();
  return (
    <Stack gap="xs" maw="36rem">
      <PageTitle>No project yet</PageTitle>
      <Text size="sm">
        A project has a token, which takes its events, and an API key with an API secret, which reads them. Create one, or ask the owner of one for an
        invitation. What was offered to you waits under <TextLink to="/app/account/$tab" params={{ tab: 'projects' }}>Account information</TextLink>.
      </Text>
      <Group>
        <Button onClick={() => navigate({ to: '/app/projects/new' })}>Create project</Button>
      </Group>
    </Stack>
  );
}
