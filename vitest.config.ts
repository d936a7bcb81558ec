import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Namespaces, marks and ports are the machine's: one file at a time in its own process keeps files from meeting.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
