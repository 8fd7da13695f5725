// A table that may be wider than its place. Where it is, it scrolls there, with the keyboard too.
import { useEffect, useRef, useState, type ReactNode } from 'react';

export function Wide({ label, minWidth, children }: { label: string; minWidth: number; children: ReactNode }) {
  const box = useRef<HTMLDivElement>(null);
  const [overflows, setOverflows] = useState(false);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () => setOverflows(element.scrollWidth > element.clientWidth + 1);
    const watcher = new ResizeObserver(look);
    watcher.observe(element);
    return () => watcher.disconnect();
  }, []);
  return (
    <div ref={box} className="wide" {...(overflows && { tabIndex: 0, role: 'region', 'aria-label': `${label}, scrolls sideways` })}>
      <div style={{ minWidth }}>{children}</div>
    </div>
  );
}
