-- Fragment: reads and writes the record of a task, and moves tasks between states. Needs _fair_queue.lua and
-- _layout.lua.
--
-- `tasks` holds one record for each unfinished or dead task, a msgpack array in the order of `save`.
-- `payloads` holds the bytes that the broker never looks into; they are apart, so that a change of state does
-- not copy them. A task is in exactly one of `ready`, `leases`, `delayed` and `dead`, as the state in its
-- record says. `jobs` lists the tasks that `cancel_job` may touch, which are all but the dead.

-- Lets the script go on when memory is full. Workers must be able to finish, give back and extend tasks then,
-- or memory would stay full. Redis refuses the first command of a script that may use more memory, but none
-- after a command that wrote. This command counts as one that wrote, and deletes nothing.
local function begin_even_if_memory_is_full()
  redis.call('HDEL', key.meta, '')
end

local function save(task)
  redis.call('HSET', key.tasks, task.id, cmsgpack.pack({
    task.state, task.tenant, task.job, task.cost, task.priority, task.lane, task.sequence, task.attempt,
    task.fence, task.worker, task.doomed, task.reason, task.died_at, task.alone, task.layout,
  }))
end

local function load(id)
  local packed = redis.call('HGET', key.tasks, id)
  if not packed then
    return nil
  end
  local record = cmsgpack.unpack(packed)
  return {
    id = id, state = record[1], tenant = record[2], job = record[3], cost = record[4], priority = record[5],
    lane = record[6], sequence = record[7], attempt = record[8], fence = record[9], worker = record[10],
    doomed = record[11], reason = record[12], died_at = record[13],
    alone = record[14] or 0,  -- an earlier release wrote 13 fields
    layout = record[15] or 0,  -- and another one 14
  }
end

local function add_cost(state, cost)
  redis.call('HINCRBY', key.meta, state .. '_cost', cost)
end

local function job_entry(task)
  return task.job .. SEPARATOR .. task.id
end

local function make_ready(task)
  task.state, task.fence, task.worker = 'ready', 0, ''
  save(task)
  redis.call('ZADD', key.ready, 0, member_of(task))
  add_cost('ready', task.cost)
  joined_line(task)
end

-- Puts a task at the end of its line: a new one, or a dead one that starts again.
local function admit(task)
  task.sequence = redis.call('HINCRBY', key.meta, 'sequence', 1)
  task.attempt, task.doomed, task.reason, task.died_at = 0, 0, '', 0
  redis.call('ZADD', key.jobs, 0, job_entry(task))
  make_ready(task)
end

-- Forgets a task that was acked or cancelled, and counts it as done.
local function finish(task)
  redis.call('HDEL', key.tasks, task.id)
  redis.call('HDEL', key.payloads, task.id)
  redis.call('ZREM', key.jobs, job_entry(task))
  redis.call('HINCRBY', key.meta, 'done', 1)
  forget_stray(task.layout)
end
