// The worker of reactor-thread.test.ts: says back what it hears, and ends in the way it is told to.
import { workerData } from 'node:worker_threads';
import { Reactor, ReactorPort, type ReactorThreadData } from '../../src/engine/index.ts';

const { port: channel, wakeFd } = workerData as ReactorThreadData;
const reactor = new Reactor();
const port = new ReactorPort<string, string>(reactor, wakeFd, channel, (message) => {
  if (message === 'throw') throw new Error('told to');
  if (message === 'exit') process.exit(3);
  if (message === 'stop') return reactor.stop();
  port.send(`${message} ${(workerData as { greeting: string }).greeting}`);
});
reactor.run();
port.close();
reactor.close();
