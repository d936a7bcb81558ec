import { AmbientError } from '../../errors/index.ts';

/** A run of the demo that cannot go on: `ERR_DEMO_PROCESS` where a proxy or server of it ended, or was never ready. */
export class DemoError extends AmbientError {
  override readonly name: string = 'DemoError';
}

export function processFailure(message: string): DemoError {
  return new DemoError({ code: 'ERR_DEMO_PROCESS', op: 'demo', message });
}
