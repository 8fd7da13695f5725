// While something is read, where there is nothing, and where it could not be read.
import { Button, Group, Skeleton, Stack, Text } from '@mantine/core';
import type { UseQueryResult } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { sentence } from '../api/client';
import { Problem } from './action';

export function Empty({ children }: { children: ReactNode }) {
  return (
    <Text size="sm" c="dimmed" py="xs">
      {children}
    </Text>
  );
}

/** What was read, or what there is to say instead. */
export function Loaded<T>({ query, children, lines = 3 }: { query: UseQueryResult<T>; children: (data: T) => ReactNode; lines?: number }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.isError) {
    return (
      <Stack gap="xs" align="flex-start">
        <Problem>{sentence(query.error)}</Problem>
        <Group>
          <Button variant="default" onClick={() => query.refetch()} loading={query.isFetching}>
            Try again
          </Button>
        </Group>
      </Stack>
    );
  }
  return (
    <Stack gap={8} role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, index) => (
        <Skeleton key={index} height={14} width={`${85 - index * 18}%`} />
      ))}
    </Stack>
  );
}
