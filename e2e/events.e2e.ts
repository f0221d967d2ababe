import { beforeAll, expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { listen } from './harness/events.ts'
import { onEveryTarget } from './harness/target.ts'

onEveryTarget((target) => {
  let image = ''
  beforeAll(async () => {
    image = await target().pull()
  })

  test('a run tells its life in this order', async () => {
    await using subscriber = await listen(target())

    await target().ctr(['run', '--rm', image, 'told', 'sh', '-c', 'exit 3'])
    await subscriber.waitFor('/containers/delete', 'told')

    expect(subscriber.topics()).toEqual([
      '/snapshot/prepare',
      '/containers/create',
      '/tasks/create',
      '/tasks/start',
      '/tasks/exit',
      '/tasks/delete',
      '/snapshot/remove',
      '/containers/delete',
    ])
    expect(subscriber.seen().every(({ namespace }) => namespace === target().namespace)).toBe(true)
    expect(subscriber.seen().find(({ topic }) => topic === '/tasks/exit')?.event).toMatchObject({
      container_id: 'told',
      id: 'told',
      exit_status: 3,
    })
  })

  test('processes that are executed, a pause and an image are told too', async () => {
    await using subscriber = await listen(target())

    await target().ctr(['run', '-d', image, 'told2', 'sleep', '100'])
    await target().ctr(['tasks', 'exec', '--exec-id', 'e1', 'told2', 'true'])
    await target().ctr(['tasks', 'pause', 'told2'])
    await target().ctr(['tasks', 'resume', 'told2'])
    await target().ctr(['images', 'tag', image, 'other:1'])
    await target().ctr(['images', 'rm', 'other:1'])
    await target().ctr(['tasks', 'rm', '-f', 'told2'])
    await target().ctr(['containers', 'rm', 'told2'])
    await subscriber.waitFor('/containers/delete', 'told2')

    expect(subscriber.topics()).toEqual([
      '/snapshot/prepare',
      '/containers/create',
      '/tasks/create',
      '/tasks/start',
      '/tasks/exec-added',
      '/tasks/exec-started',
      '/tasks/exit',
      '/tasks/paused',
      '/tasks/resumed',
      '/images/create',
      '/images/delete',
      '/tasks/exit',
      '/tasks/delete',
      '/snapshot/remove',
      '/containers/delete',
    ])
  })

  test('a pull tells what it made', async () => {
    await using subscriber = await listen(target())
    const other = target().anotherNamespace()

    await target().ctr(['-n', other, 'images', 'pull', '--plain-http', image])
    const committed = () => subscriber.topics().filter((topic) => topic === '/snapshot/commit').length
    await until('both layers are committed', () => committed() === 2)

    const topics = subscriber
      .seen()
      .filter(({ namespace }) => namespace === other)
      .map(({ topic }) => topic)
    expect(topics.filter((topic) => topic === '/snapshot/prepare')).toHaveLength(2)
    expect(topics.filter((topic) => topic === '/snapshot/commit')).toHaveLength(2)
    expect(topics.filter((topic) => topic === '/images/create')).toHaveLength(1)
  })

  test('a subscriber may ask for some topics only', async () => {
    await using subscriber = await listen(target(), ['topic=="/tasks/exit"', 'topic=="/namespaces/create"'])
    await target().ctr(['run', '--rm', image, 'told3', 'true'])
    await subscriber.waitFor('/tasks/exit', 'told3')
    await target().ctr(['namespaces', 'create', target().anotherNamespace()]) // told after whatever the run tells
    await until('the end is told', () => subscriber.topics().includes('/namespaces/create'))

    expect(subscriber.topics()).toEqual(['/tasks/exit', '/namespaces/create'])
  })
})
