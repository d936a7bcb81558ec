import { describe, expect, it } from 'vitest';
import { defaultBusyPollMs } from '../../src/ztunnel/default-busy-poll.ts';

const guest = 'processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm\nbugs\t\t: spectre_v1\n';
const host = 'processor\t: 0\nflags\t\t: fpu vme lahf_lm\nbugs\t\t: hypervisor\n';

describe('defaultBusyPollMs', () => {
  it('is 0.1 on a virtual machine with a processor to spare', () => {
    expect(defaultBusyPollMs(1, { processors: 2, cpuinfo: guest })).toBe(0.1);
    expect(defaultBusyPollMs(3, { processors: 4, cpuinfo: guest })).toBe(0.1);
  });

  it('is 0 where every processor would poll', () => {
    expect(defaultBusyPollMs(1, { processors: 1, cpuinfo: guest })).toBe(0);
    expect(defaultBusyPollMs(4, { processors: 4, cpuinfo: guest })).toBe(0);
  });

  it('is 0 on a machine of its own, and where nothing is known', () => {
    expect(defaultBusyPollMs(1, { processors: 64, cpuinfo: host })).toBe(0);
    expect(defaultBusyPollMs(1, { processors: 64, cpuinfo: '' })).toBe(0);
  });

  it('knows this machine', () => {
    expect([0, 0.1]).toContain(defaultBusyPollMs(1));
  });
});
