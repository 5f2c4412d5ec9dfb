-- Drop one page of a job's ready and delayed tasks, and mark its leased ones as doomed.
--
-- KEYS[1]  meta               HASH  counters, virtual times
-- KEYS[2]  ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3]  ready_costs        HASH  tenant -> tokens ready
-- KEYS[4]  shares             HASH  tenant -> stride
-- KEYS[5]  interactive        ZSET  eligible tenants by virtual start
-- KEYS[6]  bulk               ZSET  the same for the bulk lane
-- KEYS[7]  interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8]  bulk_debts         ZSET  the same for the bulk lane
-- KEYS[9]  tasks              HASH  id -> record
-- KEYS[10] payloads           HASH  id -> payload
-- KEYS[11] jobs               ZSET  job / id of what may be cancelled, ordered by bytes
-- KEYS[12] delayed            ZSET  id by due time
--
-- ARGV[1] job
-- ARGV[2] after  id of the last task looked at; '' to begin
-- ARGV[3] until  sequence of the last task offered before the cancel; '' to begin
-- ARGV[4] limit  tasks to look at, 1 to 1,000
--
-- Returns how many were dropped, then `after` and `until` for the next page ('' for `after`: there is none).
-- Keeps: tasks that are offered after the cancel began are not affected.
-- Uses: _fair_queue.lua, _layout.lua, _tasks.lua

local job, after, limit = ARGV[1], ARGV[2], tonumber(ARGV[4])
local last_sequence = tonumber(ARGV[3]) or counter('sequence')
local line = job .. SEPARATOR
local from = after == '' and '[' .. line or '(' .. line .. after
local entries = redis.call('ZRANGEBYLEX', key.jobs, from, '(' .. line .. SEPARATOR, 'LIMIT', 0, limit)
local dropped, id = 0, ''

local function drop(task)
  if task.state == 'delayed' then
    redis.call('ZREM', key.delayed, task.id)
  else
    redis.call('ZREM', key.ready, member_of(task))
    left_line(task, not has_work(LANES[task.lane], task.tenant))
  end
  add_cost(task.state, -task.cost)
  finish(task)
end

begin_even_if_memory_is_full()
for _, entry in ipairs(entries) do
  id = string.sub(entry, #line + 1)
  local task = load(id)
  if task.sequence <= last_sequence then
    if task.state == 'leased' then
      task.doomed = 1
      save(task)
    else
      drop(task)
      dropped = dropped + 1
    end
  end
end
return {dropped, #entries < limit and '' or id, last_sequence}
