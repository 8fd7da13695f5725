// Values as they were sent, and tables of them: text, whatever they hold.
import { Button, Table, Text, TextInput } from '@mantine/core';
import { IconSearch } from '@tabler/icons-react';
import { useState } from 'react';
import type { Properties } from '../api/reports';
import { textOf, typeOf, type Json } from './exact';
import { Empty } from './states';
import { Name } from './text';
import { Wide } from './wide';

/** Longer values are cut until somebody asks for all of them. */
const SHOWN_CHARS_MAX = 300;
/** With more properties there is a field to find some. */
const FIND_FROM = 12;

export function Value({ value, whole = true }: { value: Json | undefined; whole?: boolean }) {
  const [isOpen, setOpen] = useState(false);
  if (value === undefined) return null;
  const text = textOf(value);
  const isCut = text.length > SHOWN_CHARS_MAX && !isOpen;
  if (text === '') return <Text size="xs" c="dimmed" span>empty</Text>;
  return (
    <>
      <bdi className={typeOf(value) === 'string' ? 'said' : 'value'}>{isCut ? `${text.slice(0, whole ? SHOWN_CHARS_MAX : 80)}…` : text}</bdi>
      {isCut && whole && (
        <>
          {' '}
          <Button variant="default" size="compact-xs" onClick={() => setOpen(true)}>
            Show all
          </Button>
        </>
      )}
    </>
  );
}

/** Properties with their types, those of the protocol first. */
export function PropertyTable({ properties, label }: { properties: Properties; label: string }) {
  const [find, setFind] = useState('');
  const word = find.trim().toLowerCase();
  const rows = Object.entries(properties).sort(([a], [b]) => Number(b.startsWith('$')) - Number(a.startsWith('$')) || a.localeCompare(b));
  const shown = word ? rows.filter(([name, value]) => name.toLowerCase().includes(word) || textOf(value).toLowerCase().includes(word)) : rows;
  return (
    <>
      {rows.length > FIND_FROM && (
        <TextInput
          type="search"
          aria-label={`Find in ${label}`}
          placeholder="Find a property or a value …"
          leftSection={<IconSearch size={15} aria-hidden />}
          value={find}
          onChange={(event) => setFind(event.currentTarget.value)}
          maw="24rem"
          mb="sm"
        />
      )}
      {shown.length === 0 ? (
        <Empty>{word ? 'No property has this word.' : 'No properties.'}</Empty>
      ) : (
        <Wide minWidth={320} label={label}>
          <Table aria-label={label} layout="fixed">
            <Table.Thead>
              <Table.Tr>
                <Table.Th w="32%">Property</Table.Th>
                <Table.Th>Value</Table.Th>
                <Table.Th w={64}>Type</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {shown.map(([name, value]) => (
                <Table.Tr key={name}>
                  <Table.Td>
                    <Name>{name}</Name>
                  </Table.Td>
                  <Table.Td>
                    <Value value={value} />
                  </Table.Td>
                  <Table.Td>
                    <Text size="xs" c="dimmed">
                      {typeOf(value)}
                    </Text>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Wide>
      )}
    </>
  );
}
