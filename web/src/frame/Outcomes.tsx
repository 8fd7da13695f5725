// What stands in the place of a page: while it opens, where there is none, and where it broke.
import { Button, Group, Loader, Stack, Text, Title } from '@mantine/core';
import { useRouter } from '@tanstack/react-router';
import { Problem } from '../pieces/action';
import { TextLink } from '../pieces/text';

export function Opening() {
  return (
    <Group p="xl" gap="sm" role="status">
      <Loader size="sm" aria-hidden />
      <Text size="sm">Opening …</Text>
    </Group>
  );
}

export function Missing() {
  return (
    <Stack p="xl" gap="xs" maw="36rem">
      <Title order={1}>There is no such page</Title>
      <Text size="sm">
        It may be of a project that you are not a member of: ask an owner of it for an invitation. <TextLink to="/app">Go to your projects</TextLink>.
      </Text>
    </Stack>
  );
}

export function Broken({ text, retry }: { text: string; retry: () => void }) {
  const router = useRouter();
  const again = () => {
    retry();
    void router.invalidate();
  };
  return (
    <Stack p="xl" gap="sm" maw="36rem" align="flex-start">
      <Title order={1}>This page did not open</Title>
      <Problem>{text}</Problem>
      <Button onClick={again}>Try again</Button>
    </Stack>
  );
}
