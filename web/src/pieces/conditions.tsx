// Conditions on properties, put together by hand.
import { ActionIcon, Button, Group, NativeSelect, Stack, TextInput } from '@mantine/core';
import { IconPlus, IconX } from '@tabler/icons-react';
import { useId, useState, type FormEvent } from 'react';
import { field } from './action';
import { Name } from './text';
import { takesValue, TESTS, type Condition, type Test } from './where';

const tests = Object.entries(TESTS).map(([value, label]) => ({ value, label }));

/** The conditions that hold, each with a button that takes it back, and a form for a further one. */
export function Conditions({ conditions, names, onChange }: { conditions: Condition[]; names: string[]; onChange: (conditions: Condition[]) => void }) {
  const [isOpen, setOpen] = useState(false);
  const [test, setTest] = useState<Test>('is');
  const list = useId();
  const open = () => {
    setTest('is');
    setOpen(!isOpen);
  };
  const add = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    onChange([...conditions, { property: field(fields, 'property'), test, ...(takesValue(test) && { value: field(fields, 'value') }) }]);
    setOpen(false);
  };
  return (
    <Stack gap="xs">
      <Group gap={6}>
        {conditions.map((condition, index) => (
          <Group key={JSON.stringify(condition) + index} gap={4} wrap="nowrap" className="chip">
            <span className="name">
              <Name>{condition.property}</Name> {TESTS[condition.test]} {takesValue(condition.test) && <Name>{condition.value || '“”'}</Name>}
            </span>
            <ActionIcon
              variant="subtle"
              color="gray"
              size="xs"
              aria-label={`Take back: ${condition.property} ${TESTS[condition.test]} ${condition.value ?? ''}`.trim()}
              onClick={() => onChange(conditions.filter((_, at) => at !== index))}
            >
              <IconX size={13} />
            </ActionIcon>
          </Group>
        ))}
        <Button variant="default" size="compact-sm" leftSection={<IconPlus size={13} aria-hidden />} onClick={open} aria-expanded={isOpen}>
          Condition
        </Button>
      </Group>
      {isOpen && (
        <form onSubmit={add} aria-label="Condition">
          <Group gap="xs" align="flex-end">
            <TextInput name="property" label="Property" list={list} required autoComplete="off" autoFocus w="13rem" />
            <datalist id={list}>
              {names.slice(0, 500).map((name) => (
                <option key={name} value={name} />
              ))}
            </datalist>
            <NativeSelect label="Test" data={tests} value={test} onChange={(event) => setTest(event.currentTarget.value as Test)} />
            {takesValue(test) && <TextInput name="value" label="Value" autoComplete="off" w="13rem" />}
            <Button type="submit" size="sm">
              Add
            </Button>
            <Button variant="default" size="sm" onClick={() => setOpen(false)}>
              Cancel
            </Button>
          </Group>
        </form>
      )}
    </Stack>
  );
}
