import { libc, SOL_TCP, TCP_CONGESTION } from '../../src/system/index.ts';

/** The congestion control that a socket goes by. */
export function congestionControl(fd: number): string {
  const name = Buffer.alloc(16);
  if (libc().getsockopt(fd, SOL_TCP, TCP_CONGESTION, name, Int32Array.of(16)) !== 0) throw new Error('getsockopt');
  return name.toString('latin1').replace(/\0.*/s, '');
}
