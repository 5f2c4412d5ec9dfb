-- Fragment: who holds a task, and how a lease ends. Needs _tasks.lua.

-- The task, if this fence holds it; else nil, and the fence and worker that do (0 and '': nobody).
local function find_held(id, fence)
  local task = load(id)
  if not task or task.state ~= 'leased' then
    return nil, 0, ''
  elseif task.fence ~= fence then
    return nil, task.fence, task.worker
  end
  return task
end

-- What becomes of the task is the caller's to say.
local function end_lease(task)
  redis.call('ZREM', key.leases, task.id)
  add_cost('leased', -task.cost)
  count_in_flight(task.tenant, -1)
end

-- A task whose job was cancelled meanwhile must not become ready again.
local function return_to_line(task)
  if task.doomed == 1 then
    finish(task)
  else
    make_ready(task)
  end
end
