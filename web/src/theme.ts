// How the page looks: one family of letters, small radii, one colour, and greys that can be read.
import { createTheme, type CSSVariablesResolver } from '@mantine/core';

export const theme = createTheme({
  fontFamily: '"Inter Variable", system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
  fontSizes: { xs: '0.75rem', sm: '0.8125rem', md: '0.875rem', lg: '1rem', xl: '1.125rem' },
  headings: { fontWeight: '600', sizes: { h1: { fontSize: '1.25rem' }, h2: { fontSize: '1rem' }, h3: { fontSize: '0.875rem' } } },
  primaryColor: 'cyan',
  primaryShade: 9,
  colors: { dark: ['#cbd3da', '#b4bdc6', '#929ca6', '#6f7a84', '#39414a', '#2d343b', '#21272d', '#15191d', '#101316', '#0b0d0f'] },
  autoContrast: true,
  defaultRadius: 'sm',
  cursorType: 'pointer',
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { size: 'xs' } },
    TextInput: { defaultProps: { size: 'sm', withAsterisk: false } },
    PasswordInput: { defaultProps: { size: 'sm', withAsterisk: false, visibilityToggleButtonProps: { 'aria-label': 'Show what is typed' } } },
    NumberInput: { defaultProps: { size: 'sm', withAsterisk: false } },
    NativeSelect: { defaultProps: { size: 'sm', withAsterisk: false } },
    Textarea: { defaultProps: { size: 'sm', withAsterisk: false } },
    Checkbox: { defaultProps: { size: 'sm' } },
    Switch: { defaultProps: { size: 'sm' } },
    Table: { defaultProps: { verticalSpacing: 6, horizontalSpacing: 'xs', fz: 'sm' } },
    Modal: { defaultProps: { transitionProps: { duration: 0 }, closeButtonProps: { 'aria-label': 'Close' } } },
    // The first item takes the focus: an element before it that does would be no part of a menu.
    Menu: { defaultProps: { transitionProps: { duration: 0 }, shadow: 'md', withInitialFocusPlaceholder: false, menuItemTabIndex: 0 } },
    // Colour alone does not tell a link from the text around it.
    Anchor: { defaultProps: { underline: 'always' } },
  },
});

/** The greys of the framework are too faint for small text. */
export const variables: CSSVariablesResolver = () => ({
  variables: {},
  light: { '--mantine-color-dimmed': '#55606b', '--mantine-color-body': '#ffffff', '--mantine-color-placeholder': '#68727c', '--mantine-color-error': '#c01818' },
  dark: { '--mantine-color-dimmed': '#a7b0b9', '--mantine-color-body': '#15191d', '--mantine-color-placeholder': '#8d969f', '--mantine-color-error': '#ff8787' },
});
