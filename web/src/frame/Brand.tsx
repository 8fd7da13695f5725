// The mark and the name.
export function Brand() {
  return (
    <>
      <svg width="19" height="19" viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="2.2" strokeLinecap="round" aria-hidden>
        <path d="M4 3v18M20 3v18M4 8h16" />
        <path d="M8 13c1.3 1.2 2.7 1.2 4 0s2.7-1.2 4 0M8 18c1.3 1.2 2.7 1.2 4 0s2.7-1.2 4 0" />
      </svg>
      <span>Sluice</span>
    </>
  );
}
